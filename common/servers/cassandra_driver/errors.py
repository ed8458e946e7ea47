"""Whose fault an error of the driver or of a node is."""

import ssl

import cassandra
from cassandra import protocol
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException

from common.domain.faults import TaskFault, WorldFault


class StatementError(Exception):
    """The statement itself is at fault: a value that cannot be stored or read, a key that is too long.

    It will fail with these values however often it is executed; other values of the same statement may work. The text
    names the statement.
    """


class Refused(ConnectionException):
    """A node refuses this user, or one side the other's certificate.

    It is no AuthenticationFailed, after which the driver would never try the node again: a password may be set right.
    """


# The server or the connection to it: the statement may work later.
_WORLD = (
    NoHostAvailable,
    ConnectionException,
    OSError,
    cassandra.CoordinationFailure,
    cassandra.OperationTimedOut,
    cassandra.Timeout,
    cassandra.Unavailable,
    cassandra.UnresolvableContactPoints,
    protocol.IsBootstrappingErrorMessage,
    protocol.OverloadedErrorMessage,
    protocol.PreparedQueryNotFound,
    protocol.ProtocolException,
    protocol.ServerError,
    protocol.TruncateError,
)
# Will be the same however often it is tried and whichever event it is tried with.
_TASK = (
    Refused,
    cassandra.AuthenticationFailed,
    cassandra.Unauthorized,
    protocol.BadCredentials,
    protocol.ConfigurationException,
    ssl.SSLError,
)


def is_of_the_world(error: Exception) -> bool:
    """Whether the same statement may work later, or on another node."""
    return isinstance(error, _WORLD) and not isinstance(error, _TASK)


def fault(error: Exception, statement: str = "") -> Exception:
    """The error to raise: WorldFault, TaskFault, or StatementError that names the statement."""
    if isinstance(error, StatementError | WorldFault | TaskFault):
        return error
    if (refusal := _refusal(error)) is not None:
        return TaskFault(f"Cassandra refuses this user or connection: {_sentence(refusal)}")
    if isinstance(error, _WORLD):
        return WorldFault(f"Cassandra: {_sentence(error)}")
    return StatementError(f"Cassandra: {_sentence(error)}: {statement}")


def _refusal(error: Exception) -> Exception | None:
    """One that a node has given: with several nodes the driver gathers them."""
    if isinstance(error, _TASK):
        return error
    if isinstance(error, NoHostAvailable) and isinstance(error.errors, dict):
        return next((of_one for of_one in error.errors.values() if isinstance(of_one, _TASK)), None)
    return None


def _sentence(error: Exception) -> str:
    if isinstance(error, NoHostAvailable):
        of_nodes = error.errors.items() if isinstance(error.errors, dict) else ()
        return "no node can be used: " + "; ".join(f"{node}: {_sentence(of_one)}" for node, of_one in of_nodes)
    if isinstance(error, cassandra.OperationTimedOut) and isinstance(error.errors, dict):
        return "; ".join(f"{node}: {reason}" for node, reason in error.errors.items())
    return str(error) or type(error).__name__
