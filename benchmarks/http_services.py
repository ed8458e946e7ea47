"""The HTTP services of the local world in a process of their own, so that their CPU is counted apart."""

import sys
import urllib.request
from collections.abc import Mapping

import msgspec

from local.config import REPOSITORY
from local.process import Launch, Server
from local.world import World


class HttpServices(Server):
    """`local.http_services` as a process of its own: 95 us of CPU a request, and 9,000 requests/s with a delay of 5 ms.

    A faster one would be a smaller part of what the job spends on its own client, and one more thing to keep.
    """

    name = "HTTP services"

    def __init__(self, world: World) -> None:
        """Its log in `http-services/` of the state folder."""
        super().__init__(world.config.state_folder / "http-services")
        self.start_timeout_seconds = world.config.start_timeout_seconds
        self.stop_timeout_seconds = world.config.stop_timeout_seconds

    def prepare(self) -> Launch:
        """On a free port, which it prints."""
        command = [sys.executable, "-m", "local.http_services"]
        return Launch(command, environment={"PYTHONPATH": str(REPOSITORY)})

    def is_ready(self) -> bool:
        """Whether it has printed its URL, which it does once it listens."""
        return self.base_url.startswith("http")

    @property
    def base_url(self) -> str:
        """Empty until it is ready."""
        return self.log_file.read_text().strip()

    def put(self, what: str, document: Mapping[str, object]) -> None:
        """Raises OSError if it refuses."""
        url = f"{self.base_url}/admin/{what}"
        request = urllib.request.Request(url, data=msgspec.json.encode(document), method="PUT")
        with urllib.request.urlopen(request):
            pass
