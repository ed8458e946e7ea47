"""What goes wrong in the local world in a way that its user can do something about."""


class LocalWorldError(Exception):
    """Text for the user: what is wrong and what to do about it. The command line prints it without a stack."""
