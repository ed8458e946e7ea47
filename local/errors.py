"""The errors of the local world that its user can fix."""


class LocalWorldError(Exception):
    """The message tells the user what is wrong and how to fix it. The command line prints it without a stack trace."""
