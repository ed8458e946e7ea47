"""Tells whose fault an error is that the driver or a node reports."""

import logging
import re
import ssl

import cassandra
from cassandra import protocol
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException

from common.domain.faults import TaskFault, WorldFault

_logger = logging.getLogger(__name__)


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


TLS_CUT_SHORT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""A node that is starting or shutting down does that, too: it refuses nothing."""

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


# How a node reports that it could not read the tables of logins and permissions (CassandraAuthorizer,
# PasswordAuthenticator, CassandraRoleManager and ClientState of Cassandra): with the error of a login that is wrong.
_LOGINS_UNREADABLE = "Unable to perform auth"
# A full disk has the error of a statement that is wrong (Guardrails.replicaDiskUsage).
_DISK_FULL = re.compile(r"Guardrail \w*disk_usage\w* violated")

REFUSED_STATEMENT = "Cassandra refuses a statement"
"""What has failed where a statement cannot be prepared."""


def is_refusal(error: Exception) -> bool:
    """Whether this user or connection is refused, however often it is tried."""
    if not isinstance(error, _TASK) or isinstance(error, TLS_CUT_SHORT):
        return False
    text = str(error)
    # The driver makes AuthenticationFailed of every error in that phase, such as that of an overloaded node.
    is_other_error = isinstance(error, cassandra.AuthenticationFailed) and "code=" in text and "code=0100" not in text
    return not is_other_error and _LOGINS_UNREADABLE not in text


def is_of_the_world(error: Exception) -> bool:
    """Whether the same statement may work later or on another node."""
    if isinstance(error, cassandra.InvalidRequest):
        return _DISK_FULL.search(str(error)) is not None
    return isinstance(error, _WORLD + _TASK) and not is_refusal(error)


def fault(error: Exception, statement: str = "") -> Exception:
    """The error to raise for an error of the driver: WorldFault, TaskFault, or StatementError with the statement.

    If no node can be used, it is a refusal only if all nodes refuse: those that are down may come back.
    """
    if isinstance(error, StatementError | WorldFault | TaskFault):
        return error
    refusals = [of_one for of_one in _of_nodes(error) if is_refusal(of_one)]
    if refusals and len(refusals) == len(_of_nodes(error)):
        return _refused(refusals[0])
    if is_of_the_world(error):
        return WorldFault(f"Cassandra: {_sentence(error)}")
    return StatementError(f"Cassandra: {_sentence(error)}: {statement}")


def fault_without_event(error: Exception, what: str) -> Exception:
    """The same where there is no event to blame: a WorldFault, or a TaskFault that says ``what`` has failed.

    If several nodes were tried, one that refuses is enough: that is to connect or to prepare a statement, where a wrong
    password is to be reported at once and not when the nodes that are down are back.
    """
    for of_one in _of_nodes(error):
        if is_refusal(of_one):
            return _refused(of_one)
    found = fault(error)
    return TaskFault(f"{what}: {error}") if isinstance(found, StatementError) else found


def defect(error: Exception) -> Exception:
    """The same for an error that nobody expects of the driver or of this package. It is logged with its traceback."""
    _logger.error("a defect while requests to Cassandra were watched", exc_info=error)
    return fault_without_event(error, "a request to Cassandra cannot be watched")


def without_frames(error: Exception) -> Exception:
    """To be kept where one of its frames can reach it.

    In such a circle they and their values stay until the garbage collector comes, which is rare in a worker.
    """
    return error.with_traceback(None)


def _refused(error: Exception) -> TaskFault:
    return TaskFault(f"Cassandra refuses this user or connection: {_sentence(error)}")


def _of_nodes(error: Exception) -> list[Exception]:
    """The errors of the nodes that were tried, or just this one."""
    if isinstance(error, NoHostAvailable):
        return list(error.errors.values()) if isinstance(error.errors, dict) else []
    return [error]


def _sentence(error: Exception) -> str:
    if isinstance(error, NoHostAvailable):
        of_nodes = error.errors.items() if isinstance(error.errors, dict) else ()
        return "no node can be used: " + "; ".join(f"{node}: {_sentence(of_one)}" for node, of_one in of_nodes)
    if isinstance(error, cassandra.OperationTimedOut) and isinstance(error.errors, dict):
        return "; ".join(f"{node}: {reason}" for node, reason in error.errors.items())
    return str(error) or type(error).__name__
