"""A statement that Cassandra refuses, such as one with a stored value that cannot be read, is told in a sentence."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.testclient import TestClient

from common.config.loader import load
from common.servers.cassandra import StatementError
from desk import cli
from desk.config import DeskConfig
from desk.server import application
from tests.support.desk_server import VIEWER
from tests.support.required_keys import REQUIRED

REASON = "Cassandra: Key may not be empty: SELECT batchid FROM user_enrolments"


class RefusedReader:
    """A reader whose statements Cassandra refuses."""

    def __init__(self, config: DeskConfig) -> None:
        self.config = config

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def enrolment_key(self, *_: object) -> None:
        raise StatementError(REASON)


def test_a_command_says_it_in_a_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    @asynccontextmanager
    async def open_reader(config: DeskConfig) -> AsyncIterator[RefusedReader]:
        yield RefusedReader(config)

    for name, value in REQUIRED[DeskConfig].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cli, "open_reader", open_reader)
    assert cli.main(("explain", "--user", "", "--course", "do_course")) == 1
    assert capsys.readouterr().err == f"{REASON}\n"


@pytest.mark.parametrize("path", ["/learner", "/v1/explain"])
def test_a_page_says_it(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "Reader", RefusedReader)
    config = load(DeskConfig, environ=REQUIRED[DeskConfig] | {"AGGREGATES__SERVER__VIEWER_TOKEN": VIEWER})
    with TestClient(application.create_application(config), base_url="https://desk.test") as client:
        answer = client.get(path, params={"user": "u", "course": "c"}, headers={"Authorization": f"Bearer {VIEWER}"})
    assert answer.status_code == 503
    assert "Key may not be empty" in answer.text
