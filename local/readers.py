"""Runs the readers of the jobs' results: the APIs as a server process, the progress report as a command."""

import csv
import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from common.domain.aggregates import metric_key
from local.config import REPOSITORY, Config
from local.errors import LocalWorldError
from local.process import Launch, Server
from local.tokens import ISSUER, TokenIssuer
from local.world import ENVIRONMENT, World

HIERARCHY_KEYSPACE = "dev_hierarchy_store"
HIERARCHY_TABLES = (
    f"CREATE KEYSPACE IF NOT EXISTS {HIERARCHY_KEYSPACE} "
    "WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}",
    f"CREATE TABLE IF NOT EXISTS {HIERARCHY_KEYSPACE}.content_hierarchy (identifier text PRIMARY KEY, hierarchy text)",
)
"""The content service's table, with the columns that the progress report reads: the tree of a course."""


class Readers(Server):
    """`python -m services` as a process, and a client that reads the best score of a learner through each API."""

    name = "the read APIs"

    def __init__(self, config: Config, world: World, http_services_url: str, environment: str) -> None:
        """`environment` is the one that the jobs run with: the first part of their topics' names."""
        super().__init__(config.state_folder / "services")
        self._port = config.services.port
        self._internal_port = config.services.internal_port
        self._issuer = TokenIssuer(config.state_folder / "token-keys")
        self._http_services_url = http_services_url
        self.world = world
        self._environment = environment
        self.start_timeout_seconds = config.start_timeout_seconds
        self.stop_timeout_seconds = config.stop_timeout_seconds

    def prepare(self) -> Launch:
        return Launch(
            command=[sys.executable, "-m", "services"],
            environment={
                **services_environment(self.world, self._issuer, self._http_services_url),
                "PYTHONPATH": str(REPOSITORY),
                "AGGREGATES__KAFKA__ENV": self._environment,
                "AGGREGATES__SERVER__PORT": str(self._port),
                "AGGREGATES__SERVER__INTERNAL_PORT": str(self._internal_port),
            },
            ports={"services.port": self._port, "services.internal_port": self._internal_port},
        )

    def is_ready(self) -> bool:
        """Whether the readiness check passes: all servers that the APIs need are reachable."""
        try:
            return httpx.get(f"{self.internal_url}/health/ready").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    @property
    def url(self) -> str:
        """The base URL of learners' routes."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def internal_url(self) -> str:
        """Of private routes, health and metrics."""
        return f"http://127.0.0.1:{self._internal_port}"

    def token(self, user_id: str) -> str:
        """A user's token for the header ``x-authenticated-user-token``."""
        return self._issuer.token(user_id)

    def best_scores(
        self, user_id: str, course_id: str, batch_id: str, content_id: str, group_id: str
    ) -> dict[str, float | None]:
        """A learner's best score for one content, by name of the API; None where the API returns none.

        Content state has two: that of the aggregates, and the greatest of its attempts, which Sunbird's clients show.
        Raises LocalWorldError if an API answers with anything but 200.
        """
        course = {"courseId": course_id, "batchId": batch_id}
        collection = {"collectionId": course_id, "contextId": batch_id}
        group = {"groupId": group_id, "activityId": course_id, "activityType": "Course"}
        states = self._ask(
            "/v1/content/state/read", {**course, "contentIds": [content_id], "fields": ["score"]}, user_id
        )
        contents = self._ask("/v1/assess/read", {**collection, "contentId": content_id}, user_id)
        members = self._ask("/v1/group/activity/agg", group, user_id)
        metrics = [metric for member in members["members"] if member["userId"] == user_id for metric in member["agg"]]
        return {
            "content state": next(
                (state["bestScore"]["totalScore"] for state in states["contentList"] if "bestScore" in state), None
            ),
            "its attempts": max(
                (attempt["totalScore"] for state in states["contentList"] for attempt in state["score"]), default=None
            ),
            "assess read": next((content["score"] for content in contents["contents"]), None),
            "group aggregates": {metric["metric"]: metric["value"] for metric in metrics}.get(
                metric_key("score", content_id)
            ),
        }

    def _ask(self, path: str, request: Mapping[str, Any], user_id: str) -> Any:
        token = {"x-authenticated-user-token": self.token(user_id)}
        response = httpx.post(f"{self.url}{path}", json={"request": request}, headers=token, timeout=30)
        if response.status_code != httpx.codes.OK:
            raise LocalWorldError(f"{path} returned {response.status_code}: {response.text}")
        return response.json()["result"]


def services_environment(world: World, issuer: TokenIssuer, http_services_url: str) -> dict[str, str]:
    """The variables that `python -m services` needs to use these servers and to accept the tokens of `issuer`."""
    return {
        **world.job_environment(),
        "AGGREGATES__TOKENS__PUBLIC_KEYS_FOLDER": str(issuer.public_keys_folder),
        "AGGREGATES__TOKENS__ISSUER": ISSUER,
        "AGGREGATES__GROUP_SERVICE__BASE_URL": http_services_url,
    }


def report_environment(world: World, http_services_url: str) -> dict[str, str]:
    """The environment variables that point `python -m reports` to these servers. `requests` also needs PostgreSQL's."""
    servers = {
        name: value
        for name, value in world.job_environment().items()
        if not name.startswith("AGGREGATES__KAFKA__")  # the reports refuse them, because they do not use Kafka
    }
    return {
        **servers,
        "AGGREGATES__CONTENT_BASE_URL": http_services_url,
        "AGGREGATES__HIERARCHY_KEYSPACE": HIERARCHY_KEYSPACE,
    }


def desk_environment(world: World, http_services_url: str, environment: str = ENVIRONMENT) -> dict[str, str]:
    """The variables that `python -m desk` needs to use these servers. `environment` is the one of the topics."""
    return {
        **world.job_environment(),
        "AGGREGATES__KAFKA__ENV": environment,
        "AGGREGATES__LEARNER_BASE_URL": http_services_url,
        "AGGREGATES__CONTENT_BASE_URL": http_services_url,
        "AGGREGATES__SEARCH_API": f"{http_services_url}/v3/search",
        "AGGREGATES__FLINK_URL": world.flink.web_url,
    }


def progress_report(world: World, http_services_url: str, batch_id: str) -> dict[str, dict[str, str]]:
    """Runs `python -m reports progress` and returns its rows by user id. Raises LocalWorldError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, "-m", "reports", "progress", "--batch", batch_id, "--out", folder, "--csv"],
            env={**os.environ, **report_environment(world, http_services_url)},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise LocalWorldError(f"the progress report failed:\n{result.stdout}")
        (file,) = Path(folder).rglob("*.csv")
        return {row["User UUID"]: row for row in csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")))}
