"""Tells whose fault an error is that the driver or a node reports."""

import ssl

import cassandra
from cassandra import protocol
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException

from common.domain.faults import TaskFault, WorldFault


class StatementError(Exception):
    """The statement is at fault: a value cannot be stored or read, or a key is too long.

    With these values it fails however often it is executed. With other values it may work. The text names the
    statement.
    """


class Refused(ConnectionException):
    """A node refuses this user, or one side refuses the other's certificate.

    It is not an AuthenticationFailed, after which the driver would never connect to the node again. A password may be
    corrected.
    """


# A server or the connection to it. The statement may work later.
_WORLD = (
    NoHostAvailable,
    ConnectionException,
    OSError,
    cassandra.CoordinationFailure,
    cassandra.OperationTimedOut,
    cassandra.Timeout,
    cassandra.Unavailable,
    cassandra.UnresolvableContactPoints,
    # A node's space for change data capture is full, until somebody has consumed it.
    protocol.CDCWriteException,
    protocol.IsBootstrappingErrorMessage,
    protocol.OverloadedErrorMessage,
    protocol.PreparedQueryNotFound,
    protocol.ProtocolException,
    protocol.ServerError,
    protocol.TruncateError,
)
# The same for every statement, however often it is tried.
_TASK = (
    Refused,
    cassandra.AuthenticationFailed,
    cassandra.Unauthorized,
    protocol.BadCredentials,
    protocol.ConfigurationException,
    ssl.SSLError,
)


REFUSED_STATEMENT = "Cassandra refuses a statement"
"""What has failed where a statement cannot be prepared."""


def is_of_the_world(error: Exception) -> bool:
    """Whether the same statement may work later or on another node."""
    return isinstance(error, _WORLD) and not isinstance(error, _TASK)


def fault(error: Exception, statement: str = "") -> Exception:
    """The error to raise for an error of the driver: WorldFault, TaskFault, or StatementError with the statement."""
    if isinstance(error, StatementError | WorldFault | TaskFault):
        return error
    if (refusal := _refusal(error)) is not None:
        return TaskFault(f"Cassandra refuses this user or connection: {_sentence(refusal)}")
    if isinstance(error, _WORLD):
        return WorldFault(f"Cassandra: {_sentence(error)}")
    return StatementError(f"Cassandra: {_sentence(error)}: {statement}")


def fault_without_event(error: Exception, what: str) -> Exception:
    """The same where there is no event to blame: a WorldFault, or a TaskFault that says ``what`` has failed."""
    found = fault(error)
    return TaskFault(f"{what}: {error}") if isinstance(found, StatementError) else found


def _refusal(error: Exception) -> Exception | None:
    """The refusal in an error, which may be that of several nodes."""
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
