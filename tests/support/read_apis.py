"""The read APIs as a process of their own, learners with rows in all tables, and requests."""

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from cassandra.cluster import Session

from common.domain.enrolments import EnrolmentKey
from local.http_services import HttpServices
from local.tokens import ISSUER, TokenIssuer
from local.world import World
from tests.support.tables import Tables
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

STATE = "/v1/content/state/read"
PRIVATE_STATE = "/private/v1/content/state/read"
GROUP_AGG = "/v1/group/activity/agg"
SUBMIT, SUBMIT_ALIAS = "/v1/assess/submit", "/v1/assessment/submit"
SAVE = "/v1/assess/save"
READ, READ_ALIAS = "/v1/assess/read", "/v1/assessment/read"
PUBLIC = (STATE, GROUP_AGG, SUBMIT, SUBMIT_ALIAS, SAVE, READ, READ_ALIAS)

TIME_MS = 1_715_657_560_002
MAX_BODY = 20_000


class Services:
    """The running process with what its tests need."""

    def __init__(
        self,
        ports: tuple[int, int],
        folder: Path,
        issuer: TokenIssuer,
        groups: HttpServices,
        env: str,
        process: "subprocess.Popen[str]",
        certificate_file: str | None,
    ):
        self.port, self.internal_port = ports
        scheme = "https" if certificate_file else "http"
        verify = ssl.create_default_context(cafile=certificate_file) if certificate_file else True
        self.url, self.internal_url = (f"{scheme}://127.0.0.1:{port}" for port in ports)
        self.client = httpx.Client(base_url=self.url, timeout=TIMEOUT_SECONDS, verify=verify)
        self.internal = httpx.Client(base_url=self.internal_url, timeout=TIMEOUT_SECONDS, verify=verify)
        self.folder = folder
        self.issuer = issuer
        self.groups = groups
        self.env = env
        self.process = process

    def post(
        self, path: str, request: Any, user_id: str | None = None, managed: str | None = None, **headers: str
    ) -> httpx.Response:
        if user_id is not None:
            headers["x-authenticated-user-token"] = self.issuer.token(user_id)
        if managed is not None:
            headers["x-authenticated-for"] = self.issuer.token(managed, parent=user_id)
        client = self.internal if path.startswith("/private") else self.client
        return client.post(path, json={"request": request}, headers=headers)

    def result(self, path: str, request: Any, user_id: str | None = None, managed: str | None = None) -> Any:
        response = self.post(path, request, user_id, managed)
        assert response.status_code == 200, response.text
        return response.json()["result"]

    @property
    def log(self) -> str:
        """What the process has printed so far, on both streams."""
        return (self.folder / "services.log").read_text()


def start(
    world: World,
    folder: Path,
    groups: HttpServices,
    env: str,
    *arguments: str,
    **variables: str,
) -> Services:
    """Starts a process on free ports; returns when it is ready."""
    issuer = TokenIssuer(folder)
    ports = _free_ports()
    environment = {
        **os.environ,
        **world.job_environment(),
        "AGGREGATES__KAFKA__ENV": env,
        "AGGREGATES__TOKENS__PUBLIC_KEYS_FOLDER": str(issuer.public_keys_folder),
        "AGGREGATES__TOKENS__ISSUER": ISSUER,
        "AGGREGATES__TOKENS__RELOAD_INTERVAL_SECONDS": "1",
        "AGGREGATES__GROUP_SERVICE__BASE_URL": groups.base_url,
        "AGGREGATES__SERVER__PORT": str(ports[0]),
        "AGGREGATES__SERVER__INTERNAL_PORT": str(ports[1]),
        "AGGREGATES__SERVER__PRIVATE_ROUTES": "true",
        "AGGREGATES__SERVER__MAX_BODY_IN_BYTES": str(MAX_BODY),
        **variables,
    }
    log = (folder / "services.log").open("w")
    command = [sys.executable, "-m", "services", *arguments]
    process = subprocess.Popen(command, env=environment, stderr=log, stdout=log, text=True)
    certificate_file = variables.get("AGGREGATES__SERVER__TLS__CERTIFICATE_FILE")
    services = Services(ports, folder, issuer, groups, env, process, certificate_file)

    def is_ready() -> bool:
        assert process.poll() is None, services.log
        try:
            return services.internal.get("/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(is_ready, "the services are ready")
    return services


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@contextmanager
def another(
    world: World,
    folder: Path,
    groups: HttpServices,
    env: str,
    *arguments: str,
    **variables: str,
) -> Iterator[Services]:
    """A process of its own, configured otherwise."""
    services = start(world, folder, groups, env, *arguments, **variables)
    try:
        yield services
    finally:
        services.process.terminate()
        services.process.wait(TIMEOUT_SECONDS)


class Learner:
    """A learner in a batch, with rows in all tables."""

    def __init__(self, session: Session, unique: str) -> None:
        self.session = session
        self.user_id, self.course_id, self.batch_id = f"u-{unique}", f"do_course_{unique}", f"b-{unique}"
        self._tables = Tables(session)

    @property
    def enrolment(self) -> EnrolmentKey:
        return EnrolmentKey(self.user_id, self.course_id, self.batch_id)

    @property
    def ids(self) -> dict[str, str]:
        return {"courseId": self.course_id, "batchId": self.batch_id}

    @property
    def viewer_ids(self) -> dict[str, str]:
        return {"collectionId": self.course_id, "contextId": self.batch_id}

    def aggregates(
        self,
        agg: dict[str, int] | None,
        aggregates: dict[str, float] | None,
        times: dict[str, datetime] | None = None,
        batch_id: str | None = None,
    ) -> None:
        enrolment = self.enrolment._replace(batch_id=batch_id or self.batch_id)
        self._tables.insert_aggregates(enrolment, agg, aggregates, agg_last_updated=times)

    def consumption(self, content_id: str, **columns: Any) -> None:
        self._tables.insert_consumption(self.enrolment, content_id, **columns)

    def attempt(self, content_id: str, attempt_id: str, **columns: Any) -> None:
        self._tables.insert_attempt(self.enrolment, content_id, attempt_id, **columns)

    def attempts(self) -> list[Any]:
        return self._tables.attempts(self.enrolment)


def answer(score: float, question: str = "q1", ets: int = TIME_MS - 10) -> dict[str, Any]:
    return {
        "eid": "ASSESS",
        "ets": ets,
        "actor": {"id": "u-somebody-else", "type": "User"},
        "edata": {
            "score": score,
            "duration": 12.4,
            "resvalues": [{"1": '{"text":"Rose"}'}],
            "item": {"id": question, "maxscore": 10, "type": "mcq", "title": "t", "desc": "", "params": []},
        },
    }


def attempt_of(learner: Learner, content_id: str = "do_quiz", **changes: Any) -> dict[str, Any]:
    return {
        "assessmentTs": TIME_MS,
        "userId": "u-somebody-else",
        **learner.viewer_ids,
        "contentId": content_id,
        "attemptId": "attempt-1",
        "events": [answer(7.5)],
        **changes,
    }
