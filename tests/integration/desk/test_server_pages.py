"""What the pages of a course and of the failed topics show, and that they follow the tables and topics."""

import html
import json
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from starlette.testclient import TestClient

from common.domain.messages import failed
from common.domain.relations import ancestors_key, leaf_nodes_key
from local.http_services import HttpServices
from local.world import World
from tests.conftest import Topics
from tests.support.certificate_job import AT_LEAST_75, COMPLETED, Course, template
from tests.support.desk_server import REPAIRER, csrf, log_in, serving
from tests.support.waiting import wait_until

SVG = "{http://www.w3.org/2000/svg}"


def tiles(page: str) -> dict[str, str]:
    """The numbers at the top of a batch's figures."""
    found = re.findall(r'<span class="big">([\d,]+)</span> ([^<]+)</div>', page)
    return {name.strip(): number for number, name in found}


@pytest.fixture
def client(world: World, services: HttpServices) -> Iterator[TestClient]:
    with serving(world, services) as client:
        log_in(client, REPAIRER)
        yield client


class TestTheCoursePage:
    def test_follows_the_learners_of_the_batch(self, client: TestClient, course: Course, world: World) -> None:
        unit = f"{course.course_id}-unit"
        with world.redis.client(db=10) as relations:
            for collection in (course.course_id, unit):
                relations.sadd(leaf_nodes_key(course.course_id, collection), course.quiz)
            relations.sadd(ancestors_key(course.course_id, course.quiz), course.course_id, unit)
        course.templates(template({**COMPLETED, **AT_LEAST_75}))
        where = {"course": course.course_id, "batch": course.batch_id}
        page = client.get("/course", params=where).text
        assert tiles(page) == {
            "enrolled": "0",
            "completed": "0",
            "certificates issued": "0",
            "short by less than 5 percentage points": "0",
        }
        for number, score in enumerate((7.4, 7.5, 9.0)):
            user_id = f"{course.asha}-{number}"
            held = [{"name": "Completion", "identifier": "c"}] if score == 9.0 else None
            course.enrol(user_id, contentstatus={course.quiz: 2}, issued_certificates=held)
            course.score(user_id, course.quiz_of_10(score))
        expected = {
            "enrolled": "3",
            "completed": "3",
            "certificates issued": "1",
            "short by less than 5 percentage points": "1",
        }
        wait_until(
            lambda: tiles(client.get("/course/figures", params=where).text) == expected, "the figures of three learners"
        )
        page = client.get("/course", params=where).text
        assert "Completed and reached the score: 2 (67 %)" in page
        assert "1 learner has earned a certificate and does not have it" in page
        assert f"{course.asha}-1</a>" in page
        assert "The line is at 75 percent." in page
        assert f"{unit}: 100 %" in page

        picture = client.get("/course/picture.svg", params=where)
        assert picture.headers["content-type"] == "image/svg+xml"
        assert picture.headers["content-disposition"] == 'attachment; filename="course.svg"'
        texts = [element.text or "" for element in ElementTree.fromstring(picture.text).iter(f"{SVG}text")]
        for text in ("From the enrolment to the certificate", "Best scores", "Completed contents by unit"):
            assert text in texts
        assert any(unit in text for text in texts)

    def test_finds_the_batches_of_a_course(self, client: TestClient, course: Course) -> None:
        course.templates(template())
        page = client.get("/course", params={"course": course.course_id}).text
        assert "enrolled" in page  # the only batch is shown at once
        missing = client.get("/course", params={"course": course.course_id, "batch": "none"})
        assert missing.status_code == 404
        assert "There is no batch none" in html.unescape(missing.text)


class TestTheFailedEvents:
    def test_are_grouped_shown_and_sent_again(
        self, world: World, services: HttpServices, topics: Topics, course: Course
    ) -> None:
        failed_topic, input_topic = topics.create("desk.assess.failed"), topics.create("desk.assess")
        for number in range(3):
            event = json.dumps({"userId": f"{course.asha}-{number}", "batchId": "b"}).encode()
            message = failed(failed_topic, "AssessmentAggregator", event, f"content 'do_{number}' is not in the course")
            topics.produce(failed_topic, [message.value], message.key)
        other = failed(failed_topic, "AssessmentAggregator", b"\xff", "event is not UTF-8")
        topics.produce(failed_topic, [other.value], other.key)
        variables = {
            "AGGREGATES__KAFKA__TOPICS__TELEMETRY_ASSESS_FAILED": failed_topic,
            "AGGREGATES__KAFKA__TOPICS__TELEMETRY_ASSESS": input_topic,
        }
        with serving(world, services, variables) as client:
            log_in(client, REPAIRER)
            page = client.get("/failed").text
            assert "content … is not in the course" in page
            chosen = client.get("/failed", params={"topic": failed_topic, "reason": "content … is not in the course"})
            places = re.findall(r'name="place" value="([^"]+)"', chosen.text)
            assert len(places) == 3
            assert "Show all 4 failed events" in chosen.text
            assert "Choose the 3 shown" in chosen.text
            assert "what was applied before changes nothing" in chosen.text
            assert "Send a check for a certificate once" in chosen.text
            form = {"csrf": csrf(chosen.text), "place": places[:2]}
            assert client.post("/failed/replay", data=form).headers["location"] == "/failed?sent=2"
        again = [json.loads(message.value() or b"") for message in topics.read(input_topic)]
        assert sorted(event["userId"] for event in again) == [f"{course.asha}-1", f"{course.asha}-2"]
        assert all("metadata" not in event for event in again)

    def test_nothing_is_sent_without_a_choice(self, client: TestClient) -> None:
        token = csrf(client.get("/learner").text)  # of the button to log out
        assert client.post("/failed/replay", data={"csrf": token}).status_code == 400


class TestTheJobs:
    def test_say_what_is_missing(self, client: TestClient, world: World, services: HttpServices) -> None:
        # Nothing listens there: these servers run without Flink.
        with serving(world, services, {"AGGREGATES__FLINK_URL": "http://127.0.0.1:1"}) as other:
            log_in(other, REPAIRER)
            page = other.get("/jobs").text
            assert "The desk cannot see whether the jobs work." in page
            assert "does not answer" in page


def test_a_page_that_does_not_exist_has_the_menu_and_a_way_back(client: TestClient) -> None:
    answer = client.get("/nowhere")
    assert answer.status_code == 404
    assert "This page does not exist" in answer.text
    assert "Failed events" in answer.text
    client.post("/logout", data={"csrf": csrf(answer.text)})
    client.cookies.clear()
    assert "Failed events" not in client.get("/nowhere").text
