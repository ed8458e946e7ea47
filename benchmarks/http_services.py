"""Runs the HTTP services of the local world in a separate process, so that their CPU is measured separately."""

import sys
import urllib.request
from collections.abc import Mapping

import msgspec

from local.config import REPOSITORY
from local.process import Launch, Server
from local.world import World


class HttpServices(Server):
    """`python -m local.http_services`: 95 us of CPU per request, and 9,000 requests/s with a delay of 5 ms.

    A faster server would be one more thing to maintain.
    """

    name = "HTTP services"

    def __init__(self, world: World) -> None:
        """The log is in `http-services/` in the state folder."""
        super().__init__(world.config.state_folder / "http-services")
        self.start_timeout_seconds = world.config.start_timeout_seconds
        self.stop_timeout_seconds = world.config.stop_timeout_seconds

    def prepare(self) -> Launch:
        """The server chooses a free port and prints its URL."""
        command = [sys.executable, "-m", "local.http_services"]
        return Launch(command, environment={"PYTHONPATH": str(REPOSITORY)})

    def is_ready(self) -> bool:
        """Whether it has printed its URL. It does so once it accepts connections."""
        return self.base_url.startswith("http")

    @property
    def base_url(self) -> str:
        """The URL that the server has printed; empty until it is ready."""
        return self.log_file.read_text().strip()

    def put(self, what: str, document: Mapping[str, object]) -> None:
        """Adds ``document`` to the server's data through `/admin/<what>`. Raises OSError if that fails."""
        url = f"{self.base_url}/admin/{what}"
        request = urllib.request.Request(url, data=msgspec.json.encode(document), method="PUT")
        with urllib.request.urlopen(request):
            pass
