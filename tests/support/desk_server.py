"""The desk's server in this process, and browsers that log in to it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from starlette.testclient import TestClient

from desk.server.application import create_application
from local.http_services import HttpServices
from local.world import World
from tests.support.desk_world import desk_config

VIEWER, REPAIRER = "viewer-token-of-the-tests", "repairer-token-of-the-tests"
_CSRF = re.compile(r'name="csrf" value="([^"]*)"')


@contextmanager
def serving(world: World, services: HttpServices, variables: Mapping[str, str] | None = None) -> Iterator[TestClient]:
    """A browser without cookies at a running server; the address is https, as behind a proxy."""
    config = desk_config(
        world,
        services,
        {
            "AGGREGATES__SERVER__VIEWER_TOKEN": VIEWER,
            "AGGREGATES__SERVER__REPAIRER_TOKEN": REPAIRER,
            "AGGREGATES__SERVER__REFRESH_SECONDS": "1",
            **(variables or {}),
        },
    )
    with TestClient(create_application(config), base_url="https://desk.test", follow_redirects=False) as client:
        yield client


def csrf(page: str) -> str:
    """The token in the first form of a page."""
    match = _CSRF.search(page)
    assert match is not None, page
    return match[1]


def log_in(client: TestClient, token: str) -> None:
    """As a person does: open the page, fill in the token, send the form."""
    client.get("/login")
    answer = client.post("/login", data={"token": token, "csrf": csrf(client.get("/login").text)})
    assert answer.status_code == 303, answer.text
