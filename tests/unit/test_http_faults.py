"""What a failure says about an id, without a server."""

import pytest

from common.config.model import HttpConfig
from common.domain.faults import WorldFault
from common.metrics import Metrics
from common.servers.http import ApiClient


@pytest.mark.parametrize("host", ["learner..service:9000", "a" * 64, ".x", ""])
async def test_a_host_that_cannot_be_looked_up_is_no_fault_of_an_event(host: str) -> None:
    """The configuration refuses it before."""
    config = HttpConfig(initial_backoff_ms=1, max_backoff_ms=1, request_timeout_ms=20, call_timeout_ms=50)
    client = ApiClient("test", f"http://{host}/", config, Metrics())
    try:
        with pytest.raises(WorldFault, match=r"UnicodeError|InvalidUrl") as raised:
            await client.get("u-1")
        assert type(raised.value) is WorldFault
    finally:
        await client.close()
