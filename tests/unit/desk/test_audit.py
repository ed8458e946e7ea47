"""The audit log has a line for each look-up and repair, and without it there is neither."""

import errno
import io
import json
import logging
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient

from common.config.loader import load
from common.domain.messages import Message
from desk.config import DeskConfig
from desk.records import LearnerRecord
from desk.server import application, pages, run
from desk.server.live import LiveFigures
from tests.support.desk_records import KEY, learner
from tests.support.desk_server import REPAIRER, VIEWER, log_in
from tests.support.required_keys import REQUIRED

WHERE = {"course": KEY.course_id, "batch": KEY.batch_id}


class OneLearner:
    """A reader that knows Asha, whose certificate can be requested again."""

    def __init__(self, config: DeskConfig) -> None:
        self.config = config
        self.store = self

    async def batches_of_course(self, course_id: str) -> list[tuple[str, str | None]]:
        names = (KEY.batch_id, "b-1", "b-2") if course_id == KEY.course_id else ()
        return [(name, None) for name in names]

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def learner(self, _: object) -> LearnerRecord:
        return learner()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """What the desk sends."""
    found: list[Message] = []

    def send(_: object, messages: Sequence[Message]) -> None:
        found.extend(messages)

    monkeypatch.setattr(pages, "send", send)
    return found


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A browser at a desk without servers; no figures have been read yet."""

    async def no_figures(*_: object, **__: object) -> None:
        return None

    monkeypatch.setattr(application, "Reader", OneLearner)
    monkeypatch.setattr(LiveFigures, "snapshot", no_figures)
    tokens = {"AGGREGATES__SERVER__VIEWER_TOKEN": VIEWER, "AGGREGATES__SERVER__REPAIRER_TOKEN": REPAIRER}
    app = application.create_application(load(DeskConfig, environ={**REQUIRED[DeskConfig], **tokens}))
    with TestClient(
        app, base_url="https://desk.test", follow_redirects=False, raise_server_exceptions=False
    ) as browser:
        yield browser


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def lines(caplog: pytest.LogCaptureFixture, *actions: str) -> list[dict[str, Any]]:
    found = [json.loads(record.getMessage()) for record in caplog.records if record.name == "desk.audit"]
    return [line for line in found if line["action"] in actions]


@pytest.fixture(autouse=True)
def _audited(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "desk.audit")


class TestTheFigures:
    def test_leave_a_line(self, client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
        assert client.get("/course/figures", params=WHERE, headers=bearer(VIEWER)).status_code == 200
        (line,) = lines(caplog, "course")
        assert (line["person"], line["course"], line["batch"]) == ("viewer token", KEY.course_id, KEY.batch_id)

    def test_that_update_themselves_leave_one_line_for_each_session_and_batch(
        self, client: TestClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        for number in range(1, 3):
            client.cookies.clear()
            log_in(client, VIEWER)
            for batch in ("b-1", "b-2", "b-1", "b-2"):
                client.get("/course/figures", params={**WHERE, "batch": batch})
            assert [line["batch"] for line in lines(caplog, "course")] == ["b-1", "b-2"] * number

    def test_as_a_picture_leave_a_line_each_time(self, client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
        for _ in range(2):
            client.get("/course/picture.svg", params=WHERE, headers=bearer(VIEWER))
        assert [line["batch"] for line in lines(caplog, "picture")] == [KEY.batch_id] * 2

    @pytest.mark.parametrize("path", ["/course", "/course/figures", "/course/picture.svg"])
    @pytest.mark.parametrize("where", [{"batch": "made-up"}, {"course": "made-up"}, {"course": ""}])
    def test_of_a_batch_that_does_not_exist_are_not_read(
        self, client: TestClient, monkeypatch: pytest.MonkeyPatch, path: str, where: dict[str, str]
    ) -> None:
        asked: list[object] = []

        async def snapshot(*keys: object, **_: object) -> None:
            asked.append(keys)

        monkeypatch.setattr(LiveFigures, "snapshot", snapshot)
        answer = client.get(path, params={**WHERE, **where}, headers=bearer(VIEWER))
        # Without a course, its page is the form for the ids.
        assert answer.status_code == (200 if path == "/course" and where == {"course": ""} else 404)
        assert asked == []


class TestARepair:
    FORM = {"user": KEY.user_id, **WHERE, "remedy": "certificate"}  # noqa: RUF012

    def test_leaves_a_line(self, client: TestClient, sent: list[Message], caplog: pytest.LogCaptureFixture) -> None:
        assert client.post("/learner/remedy", data=self.FORM, headers=bearer(REPAIRER)).status_code == 303
        assert len(sent) == len(lines(caplog, "certificate")) == 1

    def test_that_cannot_be_written_down_is_not_sent(
        self, client: TestClient, sent: list[Message], caplog: pytest.LogCaptureFixture
    ) -> None:
        class FullDisk(io.StringIO):
            def flush(self) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

        handler = pkgutil.resolve_name(run._LOGGING["handlers"]["audit"]["class"])(FullDisk())
        logger = logging.getLogger("desk.audit")
        logger.addHandler(handler)
        try:
            answer = client.post("/learner/remedy", data=self.FORM, headers=bearer(REPAIRER))
            watched = client.get("/course/figures", params=WHERE, headers=bearer(VIEWER))
        finally:
            logger.removeHandler(handler)
        assert (answer.status_code, watched.status_code, sent) == (500, 500, [])
        # Nobody counts as written down because of the attempt.
        caplog.clear()
        client.get("/course/figures", params=WHERE, headers=bearer(VIEWER))
        assert len(lines(caplog, "course")) == 1
