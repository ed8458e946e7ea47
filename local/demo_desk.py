"""Serves the support desk on the data of the demo, and leaves a picture of the course page."""

import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode

import httpx

from local.config import REPOSITORY, Config
from local.errors import LocalWorldError
from local.process import Launch, Server
from local.story import Story


class DeskServer(Server):
    """`python -m desk serve` as a process, with a token of its own for each start."""

    name = "the support desk"

    def __init__(self, config: Config, environment: Mapping[str, str]) -> None:
        """`environment` are the variables that point the desk to the servers."""
        super().__init__(config.state_folder / "desk")
        self._port = config.desk.port
        self._environment = environment
        self.token = secrets.token_urlsafe(16)
        self.start_timeout_seconds = config.start_timeout_seconds
        self.stop_timeout_seconds = config.stop_timeout_seconds

    def prepare(self) -> Launch:
        return Launch(
            command=[sys.executable, "-m", "desk", "serve"],
            environment={
                **self._environment,
                "PYTHONPATH": str(REPOSITORY),
                "AGGREGATES__SERVER__PORT": str(self._port),
                "AGGREGATES__SERVER__REPAIRER_TOKEN": self.token,
                "AGGREGATES__SERVER__VIEWER_TOKEN": secrets.token_urlsafe(16),
                # Over plain HTTP. Browsers make an exception for localhost, but not all for 127.0.0.1.
                "AGGREGATES__SERVER__SECURE_COOKIES": "false",
            },
            ports={"desk.port": self._port},
        )

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return httpx.get(f"{self.url}/health").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    @property
    def url(self) -> str:
        """The address of the pages."""
        return f"http://127.0.0.1:{self._port}"

    def course_page(self, story: Story) -> str:
        """The address of the page of the demo's course."""
        return f"{self.url}/course?" + urlencode({"course": story.course.course_id, "batch": story.course.batch_id})

    def save_picture(self, story: Story, file: Path) -> None:
        """Writes the charts of the course page to a file. Raises LocalWorldError if the desk has no figures."""
        query = {"course": story.course.course_id, "batch": story.course.batch_id}
        response = httpx.get(
            f"{self.url}/course/picture.svg",
            params=query,
            headers={"authorization": f"Bearer {self.token}"},
            timeout=60,
        )
        if response.status_code != httpx.codes.OK:
            raise LocalWorldError(f"the desk has no picture of the course: {response.status_code} {response.text}")
        file.write_text(response.text, encoding="utf-8")
