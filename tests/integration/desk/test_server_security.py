"""What comes of looking and repairing, on real servers. tests/unit/desk/test_access.py: who is turned away before."""

import json
import logging
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from starlette.testclient import TestClient

from local.http_services import HttpServices
from local.readers import desk_environment
from local.world import World
from tests.conftest import Topics
from tests.support.certificate_job import AT_LEAST_75, COMPLETED, Course, template
from tests.support.desk_server import REPAIRER, VIEWER, csrf, log_in, serving
from tests.support.desk_world import run_desk

PAGES = ("/learner", "/course", "/failed", "/jobs")


@pytest.fixture
def topic(topics: Topics) -> str:
    return topics.create("dev.issue.certificate.request")


@pytest.fixture
def client(world: World, services: HttpServices, topic: str) -> Iterator[TestClient]:
    with serving(world, services, {"AGGREGATES__KAFKA__TOPICS__ISSUE_CERTIFICATE_REQUEST": topic}) as client:
        yield client


@pytest.fixture
def asha(course: Course) -> dict[str, str]:
    """A learner who has fulfilled everything and has no certificate: the desk offers to request it again."""
    course.templates(template({**COMPLETED, **AT_LEAST_75}))
    course.enrol(course.asha)
    course.score(course.asha, course.quiz_of_10(7.5))
    return {"user": course.asha, "course": course.course_id, "batch": course.batch_id}


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def audit_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [json.loads(record.getMessage()) for record in caplog.records if record.name == "desk.audit"]


class TestLookingNeedsAToken:
    def test_the_api_answers_a_viewer(self, client: TestClient, asha: dict[str, str]) -> None:
        answer = client.get("/v1/explain", params=asha, headers=bearer(VIEWER))
        assert answer.status_code == 200
        assert answer.json()["steps"][-1]["sentence"].startswith("No certificate although everything is fulfilled")

    def test_a_server_that_nobody_may_look_at_does_not_start(self, world: World, services: HttpServices) -> None:
        result = run_desk(desk_environment(world, services.base_url), "serve")
        assert result.returncode == 2
        assert "nobody could look: set server.viewer_token_file or server.user_header" in result.stderr


class TestRepairing:
    def test_a_viewer_sees_the_command_and_no_button(self, client: TestClient, asha: dict[str, str]) -> None:
        log_in(client, VIEWER)
        page = client.get("/learner", params=asha).text
        assert "python -m desk send certificate" in page
        assert 'action="/learner/remedy"' not in page

    def test_a_viewer_may_not_repair(
        self, client: TestClient, asha: dict[str, str], topics: Topics, topic: str
    ) -> None:
        log_in(client, VIEWER)
        token = csrf(client.get("/learner", params=asha).text)
        answer = client.post("/learner/remedy", data={**asha, "remedy": "certificate", "csrf": token})
        assert answer.status_code == 403
        assert client.post("/failed/replay", data={"place": "x:0:0", "csrf": token}).status_code == 403
        assert topics.read(topic) == []

    def test_nobody_repairs_by_a_token_unless_one_is_set(self, world: World, services: HttpServices) -> None:
        with serving(world, services, {"AGGREGATES__SERVER__REPAIRER_TOKEN": ""}) as client:
            for token in (REPAIRER, "", "None"):
                answer = client.post("/learner/remedy", data={}, headers=bearer(token))
                assert answer.status_code == 401

    def test_a_repairer_sends_what_the_page_offers(
        self, client: TestClient, asha: dict[str, str], topics: Topics, topic: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "desk.audit")
        log_in(client, REPAIRER)
        page = client.get("/learner", params=asha).text
        assert "Request the certificate again" in page
        answer = client.post("/learner/remedy", data={**asha, "remedy": "certificate", "csrf": csrf(page)})
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/learner?user=")
        (message,) = topics.read(topic)
        assert json.loads(message.value() or b"")["edata"]["userIds"] == [asha["user"]]
        line = audit_lines(caplog)[-1]
        assert (line["person"], line["role"], line["action"]) == ("repairer token", "repairer", "certificate")
        assert (line["user"], line["course"], line["batch"]) == (asha["user"], asha["course"], asha["batch"])

    def test_what_the_page_does_not_offer_is_not_sent(
        self, client: TestClient, course: Course, asha: dict[str, str], topics: Topics, topic: str
    ) -> None:
        course.score(course.asha, course.quiz_of_10(7.4))
        for remedy in ("certificate", "nonsense", ""):
            answer = client.post("/learner/remedy", data={**asha, "remedy": remedy}, headers=bearer(REPAIRER))
            assert answer.status_code == 409
        assert topics.read(topic) == []


class TestFormsOfOtherPages:
    """What a browser would send with our cookie because another page tells it to."""

    @pytest.fixture
    def form(self, client: TestClient, asha: dict[str, str]) -> dict[str, str]:
        log_in(client, REPAIRER)
        return {**asha, "remedy": "certificate", "csrf": csrf(client.get("/learner", params=asha).text)}

    def test_without_a_token(self, client: TestClient, form: dict[str, str], topics: Topics, topic: str) -> None:
        for token in ("", "x", form["csrf"][:-1]):
            assert client.post("/learner/remedy", data={**form, "csrf": token}).status_code == 403
        assert topics.read(topic) == []

    def test_with_the_token_of_another_session(
        self, client: TestClient, form: dict[str, str], topics: Topics, topic: str
    ) -> None:
        client.cookies.clear()
        log_in(client, REPAIRER)
        assert client.post("/learner/remedy", data=form).status_code == 403
        assert topics.read(topic) == []

    def test_our_own(self, client: TestClient, form: dict[str, str], topics: Topics, topic: str) -> None:
        headers = {"origin": "https://desk.test", "sec-fetch-site": "same-origin"}
        assert client.post("/learner/remedy", data=form, headers=headers).status_code == 303
        assert len(topics.read(topic)) == 1


class TestAReverseProxy:
    VARIABLES: ClassVar = {
        "AGGREGATES__SERVER__USER_HEADER": "X-Forwarded-User",
        "AGGREGATES__SERVER__REPAIRERS": "[olga]",
        "AGGREGATES__SERVER__TRUSTED_PROXIES": "[testclient]",
    }

    def test_names_viewers_and_repairers(self, world: World, services: HttpServices, asha: dict[str, str]) -> None:
        with serving(world, services, self.VARIABLES) as client:
            page = client.get("/learner", params=asha, headers={"x-forwarded-user": "vera"})
            assert 'action="/learner/remedy"' not in page.text
            page = client.get("/learner", params=asha, headers={"x-forwarded-user": "olga"})
            assert 'action="/learner/remedy"' in page.text
            # The browser adds the proxy's login to whatever page it comes from, so the form needs its token here, too.
            form = {**asha, "remedy": "certificate"}
            assert client.post("/learner/remedy", data=form, headers={"x-forwarded-user": "olga"}).status_code == 403
            form["csrf"] = csrf(page.text)
            assert client.post("/learner/remedy", data=form, headers={"x-forwarded-user": "vera"}).status_code == 403


class TestPages:
    def test_show_what_was_typed_as_text(self, client: TestClient) -> None:
        log_in(client, VIEWER)
        evil = '"><script>alert(1)</script>'
        for path in PAGES:
            page = client.get(path, params=dict.fromkeys(("user", "course", "batch", "topic", "reason", "sent"), evil))
            assert "<script>alert" not in page.text

    def test_show_no_name_of_a_user_unless_it_is_asked_for(
        self, world: World, services: HttpServices, course: Course, asha: dict[str, str]
    ) -> None:
        services.users[course.asha] = {"firstName": "Aishwarya", "rootOrgId": "org-7", "status": 1}
        course.templates(template({"user": {"rootOrgId": "org-1"}}))
        for show_names in (False, True):
            with serving(world, services, {"AGGREGATES__SHOW_NAMES": str(show_names).lower()}) as client:
                page = client.get("/learner", params=asha, headers=bearer(VIEWER)).text
                assert ("org-7" in page) == show_names
                assert "Aishwarya" not in page

    def test_every_look_up_leaves_a_line(
        self, client: TestClient, asha: dict[str, str], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "desk.audit")
        log_in(client, VIEWER)
        client.get("/learner", params=asha)
        client.get("/v1/explain", params={**asha, "user": "forged\nline"}, headers=bearer(VIEWER))
        client.get("/v1/explain", params=asha, headers=bearer("wrong"))
        lines = audit_lines(caplog)
        assert [(line["action"], line["outcome"]) for line in lines] == [
            ("login", "accepted"),
            ("explain", "no"),
            ("explain", "no"),
            ("v1/explain", "refused"),
        ]
        assert (lines[1]["user"], lines[2]["user"]) == (asha["user"], "forged\nline")
        assert all("\n" not in record.getMessage() for record in caplog.records if record.name == "desk.audit")
