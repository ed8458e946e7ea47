"""The desk's pages in a real Chromium: by keyboard alone, narrow and wide, light and dark, for everybody."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from cassandra.cluster import Session
from playwright.sync_api import Browser, BrowserContext, expect

from common.domain.messages import failed
from common.domain.relations import ancestors_key, leaf_nodes_key
from desk.doctor.findings import Check, Finding, FindingsFile, Header
from local.http_services import HttpServices
from local.world import World
from tests.conftest import Topics
from tests.support.browser import Watched, chromium, listening, save_screenshot
from tests.support.certificate_job import AT_LEAST_75, COMPLETED, Course, template
from tests.support.desk_server import REPAIRER, VIEWER
from tests.support.desk_world import desk_config
from tests.support.tables import Tables

LEARNERS = 40
ATTEMPTED_ON = datetime(2024, 5, 13, 19, tzinfo=UTC)
SIZES = {"narrow": (320, 640), "wide": (1440, 900)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def module_services() -> Iterator[HttpServices]:
    with HttpServices() as services:
        yield services


@pytest.fixture(scope="module")
def may(world: World, cassandra_session: Session, module_services: HttpServices, topics: Topics) -> Course:
    """A batch of learners with all kinds of scores, in a course of two units."""
    course = Course(world, cassandra_session, module_services, "browser")
    tables = Tables(cassandra_session)
    lesson = f"{course.quiz}-lesson"
    units = {f"{course.course_id}-unit-1": (lesson,), f"{course.course_id}-unit-2": (course.quiz,)}
    with world.redis.client(db=10) as relations:
        relations.sadd(leaf_nodes_key(course.course_id, course.course_id), lesson, course.quiz)
        for unit, contents in units.items():
            relations.sadd(leaf_nodes_key(course.course_id, unit), *contents)
            for content in contents:
                relations.sadd(ancestors_key(course.course_id, content), course.course_id, unit)
    course.cache(5, course.quiz, {"contentType": "SelfAssess", "name": "Quiz: which of these is a flower?"})
    course.cache(5, lesson, {"contentType": "Resource", "name": "Lesson 1: petals and sepals"})
    for number, unit in enumerate(units, 1):
        course.cache(5, unit, {"name": f"Unit {number}"})
    course.templates(template({**COMPLETED, **AT_LEAST_75}, name="Completion with 75 percent"))
    for number in range(LEARNERS):
        user_id = course.user(f"learner-{number:02}-browser")
        is_done = number % 4 > 0
        done = {lesson: 2, course.quiz: 2} if is_done else {lesson: 2}
        course.enrol(
            user_id,
            enrolled_date="2024-05-01 08:00:00.000Z",
            status=2 if is_done else 1,
            completedon="2024-05-13 20:00:00.001Z" if is_done else None,
            progress=len(done),
            contentstatus=done,
            issued_certificates=[{"name": "Other", "identifier": "c"}] if number % 7 == 3 else None,
        )
        for content_id in done:
            tables.insert_consumption(course.enrolment(user_id), content_id, status=2)
        score = (number * 7 % LEARNERS) / 4
        attempts = 1 + number % 3
        count = {"completedCount": float(len(done)), f"attempts_count:{course.quiz}": float(attempts)}
        for attempt in range(attempts):
            tables.insert_attempt(
                course.enrolment(user_id),
                course.quiz,
                f"attempt-{attempt}",
                last_attempted_on=ATTEMPTED_ON,
                created_on=ATTEMPTED_ON,
                total_score=max(score - attempt, 0.0),
                total_max_score=10.0,
            )
        course.score(user_id, {**course.quiz_of_10(score), **count}, {f"score:{course.quiz}": int(score)})
    return course


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a check that has found the kind with the longest name."""
    path = tmp_path_factory.mktemp("check") / "findings.jsonl"
    file = FindingsFile(path, Header(None, None, tuple(Check), 1))
    file.add(0, 1234, [Finding(Check.PROGRESS, "completed_count_too_high", "u", "c", "b", "what is wrong")])
    file.close()
    return path


@pytest.fixture(scope="module")
def address(world: World, module_services: HttpServices, may: Course, topics: Topics, findings: Path) -> Iterator[str]:
    failed_topic = topics.create("dev.telemetry.assess.failed")
    for number in range(5):
        event = f'{{"userId": "learner-{number:02}-browser", "batchId": "{may.batch_id}"}}'.encode()
        message = failed(failed_topic, "AssessmentAggregator", event, "event has no attemptId: a text is required")
        topics.produce(failed_topic, [message.value], message.key)
    config = desk_config(
        world,
        module_services,
        {
            "AGGREGATES__KAFKA__TOPICS__TELEMETRY_ASSESS_FAILED": failed_topic,
            "AGGREGATES__SERVER__VIEWER_TOKEN": VIEWER,
            "AGGREGATES__SERVER__REPAIRER_TOKEN": REPAIRER,
            "AGGREGATES__SERVER__REFRESH_SECONDS": "1",
            "AGGREGATES__SERVER__SECURE_COOKIES": "false",
            "AGGREGATES__SERVER__FINDINGS_FILE": str(findings),
        },
    )
    with listening(config) as address:
        yield address


def query(course: Course, **more: str) -> str:
    return urlencode({"course": course.course_id, "batch": course.batch_id, **more})


def logged_in(context: BrowserContext, address: str) -> Watched:
    watched = Watched(context)
    watched.page.goto(f"{address}/login")
    watched.page.get_by_label("Token").fill(REPAIRER)
    watched.page.keyboard.press("Enter")
    watched.page.wait_for_url("**/learner")
    return watched


def pages(course: Course) -> dict[str, str]:
    return {
        "login": "/login",
        "search": "/learner",
        "learner": f"/learner?{query(course, user='learner-01-browser')}",
        "no-answer": f"/learner?{urlencode({'course': course.course_id, 'user': 'nobody'})}",
        "course": f"/course?{query(course)}",
        "failed": f"/failed?{query(course, user='learner-01-browser')}",
        "failed-all": "/failed",
        "jobs": "/jobs",
        "missing": "/nowhere",
    }


EXPECTED_PROBLEMS = {"no-answer": 1, "missing": 1}
"""Chromium notes the status 404 of the page itself."""


# The colours do not depend on the size.
@pytest.mark.parametrize(("size", "scheme"), [("narrow", "light"), ("wide", "dark")])
def test_every_page_fits_has_no_error_and_is_accessible(
    browser: Browser, address: str, may: Course, size: str, scheme: Any
) -> None:
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    watched = logged_in(context, address)
    page = watched.page
    for name, path in pages(may).items():
        watched.problems.clear()
        page.goto(f"{address}{path}")
        if name == "course":
            expect(page.get_by_role("heading", name="Best scores")).to_be_visible(timeout=30_000)
        save_screenshot(page, f"{name}-{size}-{scheme}")
        for details in page.locator("summary").all():
            details.click()
        save_screenshot(page, f"{name}-{size}-{scheme}-open")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert len(watched.problems) == EXPECTED_PROBLEMS.get(name, 0), (name, watched.problems)
        found = Axe().run(page)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
    context.close()


def test_a_learner_is_found_and_explained_by_keyboard_alone(browser: Browser, address: str, may: Course) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{address}/login")
    # Chromium moves the focus some time after the page has loaded.
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type(REPAIRER)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Learner id")).to_be_focused()
    page.keyboard.type("learner-02-browser")
    page.keyboard.press("Tab")
    page.keyboard.type(may.course_id)
    page.keyboard.press("Enter")
    expect(page.locator("#verdict")).to_contain_text("No certificate: the best score is")
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
        if reached[-1].startswith("Evidence"):
            break
    assert reached[0] == "Skip to the content"
    assert page.locator("details[open]").count() == 0
    page.keyboard.press("Enter")
    assert page.locator("details[open]").count() == 1
    # Whatever has the focus shows it.
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    context.close()


def test_a_fault_does_not_look_like_a_plain_no(browser: Browser, address: str, may: Course) -> None:
    context = browser.new_context()
    page = logged_in(context, address).page
    seen = {}
    # The first five learners have a failed event; learner 6 has none.
    for user_id in ("learner-01-browser", "learner-06-browser"):
        page.goto(f"{address}/learner?{query(may, user=user_id)}")
        box = page.locator(".verdict")
        seen[user_id] = (
            box.locator(".mark").first.get_attribute("aria-label"),
            box.evaluate("box => getComputedStyle(box).backgroundColor"),
            box.inner_text(),
        )
    (sign, colour, text), (plain_sign, plain_colour, plain_text) = seen.values()
    assert (sign, plain_sign) == ("Something is wrong", "No")
    assert colour != plain_colour
    assert "Something is wrong: 1 event of the learner could not be processed." in text
    assert "Nothing is broken." in plain_text
    context.close()


def test_the_pages_work_without_javascript(browser: Browser, address: str, may: Course) -> None:
    context = browser.new_context(java_script_enabled=False)
    watched = logged_in(context, address)
    watched.page.goto(f"{address}/learner?{query(may, user='learner-01-browser')}")
    assert "certificate" in watched.page.locator(".verdict").inner_text().lower()
    watched.page.goto(f"{address}/course?{query(may)}")
    assert watched.page.locator("noscript").count() == 1
    context.close()


def test_the_course_page_updates_itself(browser: Browser, address: str, may: Course) -> None:
    context = browser.new_context()
    watched = logged_in(context, address)
    page = watched.page
    page.goto(f"{address}/course?{query(may)}")
    enrolled = page.locator(".tile", has_text="enrolled").locator(".big")
    expect(enrolled).to_have_text(str(LEARNERS), timeout=30_000)
    page.get_by_text("The bars as a table").click()
    may.enrol("one-more-browser", status=0)
    expect(enrolled).to_have_text(str(LEARNERS + 1), timeout=60_000)
    # What somebody reads stays open, and keeps the focus.
    assert page.locator("details[open]").count() == 1
    assert page.evaluate("document.activeElement.textContent") == "The bars as a table"
    assert watched.problems == []
    context.close()
