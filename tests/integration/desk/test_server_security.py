"""Who may see and do what on the desk's server, and what a page may load."""

import json
import logging
import re
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
    @pytest.mark.parametrize("path", PAGES)
    def test_a_stranger_is_sent_to_the_login(self, client: TestClient, path: str) -> None:
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")

    @pytest.mark.parametrize("headers", [{}, bearer("wrong"), bearer(""), {"authorization": f"Basic {VIEWER}"}])
    def test_the_api_refuses_a_stranger(
        self, client: TestClient, asha: dict[str, str], headers: dict[str, str]
    ) -> None:
        answer = client.get("/v1/explain", params=asha, headers=headers)
        assert answer.status_code == 401
        assert course_is_unnamed(answer.text, asha)

    def test_the_api_answers_a_viewer(self, client: TestClient, asha: dict[str, str]) -> None:
        answer = client.get("/v1/explain", params=asha, headers=bearer(VIEWER))
        assert answer.status_code == 200
        assert answer.json()["steps"][-1]["sentence"].startswith("No certificate although everything is fulfilled")

    def test_a_wrong_token_begins_no_session(self, client: TestClient) -> None:
        client.get("/login")
        answer = client.post("/login", data={"token": "wrong", "csrf": csrf(client.get("/login").text)})
        assert answer.status_code == 401
        assert client.get("/learner").status_code == 303

    def test_a_login_gives_a_new_session_in_a_strict_cookie(self, client: TestClient) -> None:
        client.get("/login")
        before = client.cookies["desk_session"]
        answer = client.post("/login", data={"token": VIEWER, "csrf": csrf(client.get("/login").text)})
        cookie = answer.headers["set-cookie"]
        assert client.cookies["desk_session"] != before
        for attribute in ("HttpOnly", "SameSite=strict", "Secure", "Path=/", "Max-Age="):
            assert attribute in cookie

    def test_a_changed_cookie_is_worth_nothing(self, client: TestClient) -> None:
        log_in(client, VIEWER)
        value = client.cookies["desk_session"]
        client.cookies.clear()
        changed = ("A" if value[5] != "A" else "B").join((value[:5], value[6:]))
        assert client.get("/learner", headers={"cookie": f"desk_session={changed}"}).status_code == 303
        assert client.get("/learner", headers={"cookie": f"desk_session={value}"}).status_code == 200

    def test_after_the_logout_the_browser_has_no_session(self, client: TestClient) -> None:
        log_in(client, VIEWER)
        client.post("/logout", data={"csrf": csrf(client.get("/learner").text)})
        assert client.get("/learner").status_code == 303

    def test_a_server_that_nobody_may_look_at_does_not_start(self, world: World, services: HttpServices) -> None:
        result = run_desk(desk_environment(world, services.base_url), "serve")
        assert result.returncode == 2
        assert "nobody could look: set server.viewer_token_file or server.user_header" in result.stderr


def course_is_unnamed(text: str, asha: dict[str, str]) -> bool:
    return asha["course"] not in text


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

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "https://evil.test"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ],
    )
    def test_from_another_origin(
        self, client: TestClient, form: dict[str, str], topics: Topics, topic: str, headers: dict[str, str]
    ) -> None:
        assert client.post("/learner/remedy", data=form, headers=headers).status_code == 403
        assert topics.read(topic) == []

    def test_a_login_that_another_page_sends(self, client: TestClient) -> None:
        client.get("/login")
        assert client.post("/login", data={"token": VIEWER, "csrf": "x"}).status_code == 403

    def test_our_own(self, client: TestClient, form: dict[str, str], topics: Topics, topic: str) -> None:
        headers = {"origin": "https://desk.test", "sec-fetch-site": "same-origin"}
        assert client.post("/learner/remedy", data=form, headers=headers).status_code == 303
        assert len(topics.read(topic)) == 1

    def test_a_form_that_is_too_large(self, client: TestClient, form: dict[str, str]) -> None:
        assert client.post("/learner/remedy", data={**form, "more": "x" * 300_000}).status_code == 413


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

    def test_is_believed_only_where_it_is_trusted(self, world: World, services: HttpServices) -> None:
        untrusted = {**self.VARIABLES, "AGGREGATES__SERVER__TRUSTED_PROXIES": "[10.0.0.1]"}
        for variables in (untrusted, {}):
            with serving(world, services, variables) as client:
                assert client.get("/learner", headers={"x-forwarded-user": "olga"}).status_code == 303


class TestPages:
    def test_load_nothing_but_our_own_files(self, client: TestClient, asha: dict[str, str]) -> None:
        log_in(client, VIEWER)
        answers = [client.get(path, params=asha) for path in (*PAGES, "/login", "/nowhere", "/static/desk.css")]
        for answer in answers:
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
        for answer in answers[:-1]:
            assert answer.headers["cache-control"] == "no-store"
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=\"/static/)", answer.text)

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
