"""Whose fault an error of Cassandra or its driver is."""

import io
import ssl
import struct
from typing import Any

import pytest
from cassandra import OperationTimedOut, protocol
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException

from common.domain.faults import TaskFault, WorldFault
from common.servers.cassandra_driver.errors import (
    Refused,
    StatementError,
    fault,
    fault_without_event,
    is_of_the_world,
)
from common.servers.cassandra_driver.values import PROTOCOL_VERSION

REFUSED, DOWN = Refused("10.0.0.1: wrong password"), ConnectionException("it is down")


def answered(code: int, text: str) -> Exception:
    """What the driver makes of an ERROR."""
    body = io.BytesIO(struct.pack(">iH", code, len(text)) + text.encode())
    answer: Any = protocol.ErrorMessage.recv_body(body, PROTOCOL_VERSION, {}, None, None)
    error: Exception = answer.to_exception()
    return error


@pytest.mark.parametrize(
    ("code", "text", "kind"),
    [
        (0x2100, "User us has no MODIFY permission on <table k.t> or any of its parents", TaskFault),
        (0x0100, "Provided username us and/or password are incorrect", TaskFault),
        # The nodes that hold system_auth are down.
        (0x2100, "Unable to perform authorization of permissions: Cannot achieve consistency level ONE", WorldFault),
        (0x2100, "Unable to perform authorization of super-user permission: timed out", WorldFault),
        (0x0100, "Unable to perform authentication: Operation timed out", WorldFault),
        (0x2200, "Invalid null value in condition for column id", StatementError),
        (0x2200, "Guardrail collection_size violated: Detected collection a with size 2", StatementError),
        (
            0x2200,
            "Guardrail replica_disk_usage violated: Write request failed because disk usage exceeds failure threshold",
            WorldFault,
        ),
    ],
)
def test_errors_of_a_node_are_told_apart_by_their_text(code: int, text: str, kind: type[Exception]) -> None:
    error = answered(code, text)
    assert isinstance(fault(error, "INSERT"), kind)
    assert is_of_the_world(error) == (kind is WorldFault)


def test_a_connection_that_was_cut_short_is_the_world_and_a_certificate_that_is_wrong_is_not() -> None:
    cut = ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol")
    wrong = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca")
    assert (type(fault(cut)), type(fault(wrong))) == (WorldFault, TaskFault)
    assert (is_of_the_world(cut), is_of_the_world(wrong)) == (True, False)


def test_one_node_that_refuses_is_no_refusal_by_those_that_are_down() -> None:
    """It may have refused days ago, such as with a certificate that was too old."""
    assert isinstance(fault(NoHostAvailable("", {"a": REFUSED, "b": DOWN})), WorldFault)
    assert isinstance(fault(NoHostAvailable("", {"a": REFUSED, "b": REFUSED})), TaskFault)
    assert isinstance(fault(NoHostAvailable("", {"a": DOWN, "b": OperationTimedOut()})), WorldFault)
    assert isinstance(fault(NoHostAvailable("", {})), WorldFault)


def test_before_anything_has_worked_one_node_that_refuses_is_enough() -> None:
    error = fault_without_event(NoHostAvailable("", {"a": DOWN, "b": REFUSED}), "Cassandra cannot be used")
    assert isinstance(error, TaskFault)
    assert str(error) == "Cassandra refuses this user or connection: 10.0.0.1: wrong password"
