"""Who gets through to the desk's pages. No server is needed: whoever is turned away never reaches one."""

import re

import pytest
from starlette.testclient import TestClient

from common.config.loader import load
from desk.config import DeskConfig
from desk.server.application import create_application
from tests.support.desk_server import REPAIRER, VIEWER, csrf, log_in
from tests.support.required_keys import REQUIRED

PAGES = ("/learner", "/course", "/course/figures", "/course/picture.svg", "/failed", "/jobs")
FORMS = ("/learner/remedy", "/failed/replay")


def browser(**variables: str) -> TestClient:
    """A browser at a desk that is not connected to its servers."""
    named = {f"AGGREGATES__SERVER__{name}": value for name, value in variables.items()}
    tokens = {"AGGREGATES__SERVER__VIEWER_TOKEN": VIEWER, "AGGREGATES__SERVER__REPAIRER_TOKEN": REPAIRER}
    config = load(DeskConfig, environ={**REQUIRED[DeskConfig], **tokens, **named})
    return TestClient(create_application(config), base_url="https://desk.test", follow_redirects=False)


@pytest.fixture
def client() -> TestClient:
    return browser()


class TestAStranger:
    @pytest.mark.parametrize("path", PAGES)
    def test_is_sent_to_the_login(self, client: TestClient, path: str) -> None:
        answer = client.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")

    @pytest.mark.parametrize("authorization", ["Bearer wrong", "Bearer ", "Bearer None", f"Basic {VIEWER}"])
    def test_is_refused_by_the_api(self, client: TestClient, authorization: str) -> None:
        for path in ("/v1/explain?user=u&course=c", "/learner?user=u&course=c"):
            answer = client.get(path, headers={"authorization": authorization})
            assert answer.status_code == 401

    @pytest.mark.parametrize("path", FORMS)
    def test_can_send_no_form(self, client: TestClient, path: str) -> None:
        assert client.post(path, data={"csrf": ""}).status_code == 401

    def test_finds_out_nothing_about_pages_that_do_not_exist(self, client: TestClient) -> None:
        assert client.get("/nowhere").status_code == 404
        assert client.get("/learner/").status_code == 404


class TestTheLogin:
    def test_with_a_token_begins_a_new_session_in_a_strict_cookie(self, client: TestClient) -> None:
        client.get("/login")
        before = client.cookies["desk_session"]
        answer = client.post("/login", data={"token": VIEWER, "csrf": csrf(client.get("/login").text)})
        assert (answer.status_code, answer.headers["location"]) == (303, "/learner")
        assert client.cookies["desk_session"] != before
        for attribute in ("HttpOnly", "SameSite=strict", "Secure", "Path=/", "Max-Age="):
            assert attribute in answer.headers["set-cookie"]
        assert client.get("/learner").status_code == 200

    def test_with_a_wrong_token_begins_none(self, client: TestClient) -> None:
        client.get("/login")
        for token in ("wrong", "", VIEWER[:-1], f"{VIEWER} x"):
            answer = client.post("/login", data={"token": token, "csrf": csrf(client.get("/login").text)})
            assert answer.status_code == 401
            assert client.get("/learner").status_code == 303

    def test_tells_a_browser_that_keeps_no_cookie_what_is_wrong(self) -> None:
        """As over HTTP: it would be sent from the login to the login without end."""
        client = browser()
        client.base_url = "http://desk.test"
        answer = client.get("/login", follow_redirects=True)
        assert answer.status_code == 400
        assert "The browser has not kept the desk&#39;s cookie." in answer.text
        assert "server.secure_cookies" in answer.text

    def test_sent_by_another_page_is_refused(self, client: TestClient) -> None:
        client.get("/login")
        assert client.post("/login", data={"token": VIEWER, "csrf": "x"}).status_code == 403
        assert client.get("/learner").status_code == 303

    def test_ends_with_the_logout(self, client: TestClient) -> None:
        log_in(client, VIEWER)
        client.post("/logout", data={"csrf": csrf(client.get("/learner").text)})
        assert client.get("/learner").status_code == 303

    def test_does_not_survive_a_change_of_the_cookie(self, client: TestClient) -> None:
        log_in(client, VIEWER)
        value = client.cookies["desk_session"]
        client.cookies.clear()
        changed = ("A" if value[5] != "A" else "B").join((value[:5], value[6:]))
        assert client.get("/learner", headers={"cookie": f"desk_session={changed}"}).status_code == 303
        assert client.get("/learner", headers={"cookie": f"desk_session={value}"}).status_code == 200

    def test_of_one_server_is_worth_nothing_at_another(self, client: TestClient) -> None:
        log_in(client, VIEWER)
        cookie = {"cookie": f"desk_session={client.cookies['desk_session']}"}
        assert browser().get("/learner", headers=cookie).status_code == 303


class TestAForm:
    @pytest.mark.parametrize("path", FORMS)
    def test_of_a_viewer_is_refused(self, client: TestClient, path: str) -> None:
        log_in(client, VIEWER)
        assert client.post(path, data={"csrf": csrf(client.get("/learner").text)}).status_code == 403

    @pytest.mark.parametrize("path", FORMS)
    def test_without_the_token_of_its_session_is_refused(self, client: TestClient, path: str) -> None:
        log_in(client, REPAIRER)
        own = csrf(client.get("/learner").text)
        client.cookies.clear()
        log_in(client, REPAIRER)
        for token in ("", "x", own, own[:-1]):
            assert client.post(path, data={"csrf": token}).status_code == 403

    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "https://evil.test"},
            {"origin": "null"},
            {"origin": "https://desk.test", "host": "127.0.0.1:19187"},  # by a proxy that replaces it
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ],
    )
    def test_of_another_origin_is_refused(self, client: TestClient, headers: dict[str, str]) -> None:
        log_in(client, REPAIRER)
        form = {"csrf": csrf(client.get("/learner").text)}
        assert client.post("/failed/replay", data=form, headers=headers).status_code == 403
        # Our own gets through, and is told that it chooses nothing.
        ours = {"origin": "https://desk.test", "sec-fetch-site": "same-origin"}
        assert client.post("/failed/replay", data=form, headers=ours).status_code == 400

    def test_that_is_too_large_is_refused(self, client: TestClient) -> None:
        log_in(client, REPAIRER)
        assert client.post("/failed/replay", data={"place": "x" * 300_000}).status_code == 413


class TestAReverseProxy:
    def test_names_viewers_and_repairers(self) -> None:
        client = browser(USER_HEADER="X-Forwarded-User", REPAIRERS="[olga]", TRUSTED_PROXIES="[testclient]")
        vera, olga = {"x-forwarded-user": "vera"}, {"x-forwarded-user": "olga"}
        form = {"csrf": csrf(client.get("/learner", headers=olga).text)}
        assert client.post("/failed/replay", data=form, headers=olga).status_code == 400
        assert client.post("/failed/replay", data=form, headers=vera).status_code == 403
        # The browser adds the login at the proxy to whatever page it comes from, so the form needs its token here, too.
        assert client.post("/failed/replay", data={}, headers=olga).status_code == 403

    @pytest.mark.parametrize("variables", [{"USER_HEADER": "X-Forwarded-User", "TRUSTED_PROXIES": "[10.0.0.1]"}, {}])
    def test_is_believed_only_where_it_is_trusted(self, variables: dict[str, str]) -> None:
        assert browser(**variables).get("/learner", headers={"x-forwarded-user": "olga"}).status_code == 303


class TestEveryAnswer:
    def test_may_load_nothing_but_our_own_files(self, client: TestClient) -> None:
        log_in(client, VIEWER)
        for path in ("/learner", "/course", "/login", "/nowhere", "/static/desk.css", "/static/nothing", "/"):
            answer = client.get(path)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "same-origin"
            assert answer.headers["cache-control"] == ("max-age=300" if "static" in path else "no-store")
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=\"/static/)", answer.text)

    def test_shows_what_was_typed_as_text(self, client: TestClient) -> None:
        log_in(client, VIEWER)
        evil = '"><script>alert(1)</script>'
        # Without a course nothing is looked up.
        page = client.get("/learner", params={"user": evil, "batch": evil})
        assert page.status_code == 200
        assert "&lt;script&gt;alert(1)" in page.text
        assert "<script>alert" not in page.text
