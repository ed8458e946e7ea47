"""What the desk reads of the failed topics, and what its page shows of them. A list stands for Kafka."""

import asyncio
import html
import json
import re
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from common.config.loader import load
from common.domain import messages
from common.domain.messages import failed
from desk import failed_events as module
from desk import topic_search
from desk.config import DeskConfig
from desk.failed_events import MAX_SHOWN, MAX_TEXT, Choice, FailedEvents, failed_events, kind_of
from desk.records import Search
from desk.server import failed_pages
from desk.server.application import create_application
from tests.support.desk_records import KEY
from tests.support.desk_server import REPAIRER, VIEWER
from tests.support.required_keys import REQUIRED

TOKENS = {"AGGREGATES__SERVER__VIEWER_TOKEN": VIEWER, "AGGREGATES__SERVER__REPAIRER_TOKEN": REPAIRER}
CONFIG = load(DeskConfig, environ={**REQUIRED[DeskConfig], **TOKENS})
BEARER = {"authorization": f"Bearer {VIEWER}"}
TOPIC, OTHER_TOPIC = "dev.telemetry.assess.failed", "dev.issue.certificate.request.failed"


@dataclass
class Received:
    """A message as a consumer gets it; its offset is its time."""

    of: messages.Message
    number: int = 0

    def topic(self) -> str:
        return self.of.topic

    def partition(self) -> int:
        return self.number % 2

    def offset(self) -> int:
        return self.number

    def timestamp(self) -> tuple[int, int]:
        return 1, self.number

    def key(self) -> bytes | None:
        return self.of.key

    def value(self) -> bytes:
        return self.of.value


def event(number: int = 0, reason: str = "event has no attemptId", topic: str = TOPIC, **members: Any) -> Received:
    value = json.dumps({"userId": f"u-{number}", **members}).encode()
    return Received(failed(topic, "AssessmentAggregator", value, reason), number)


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterable[Received]], None]:
    """Puts messages on the failed topics."""

    def of(received: Iterable[Received]) -> None:
        def search(_: object, __: object, concerns: Callable[[Any], bool]) -> Search[Any]:
            return Search([message for message in received if concerns(message)])

        monkeypatch.setattr(module, "search", search)
        monkeypatch.setattr(topic_search, "search", search)

    return of


Hold = Callable[[Iterable[Received]], None]


def found(choice: Choice | None = None) -> FailedEvents:
    return failed_events(CONFIG.kafka, choice)


class TestASearch:
    def test_makes_one_group_of_the_same_fault_of_many_learners(self, hold: Hold) -> None:
        reasons = [f"content 'do_{number}' is not part of course 'do_9'" for number in range(3)]
        hold(event(number, reason) for number, reason in enumerate([*reasons, "event has no attemptId"]))
        assert [(group.reason, group.number, group.latest_ms) for group in found().groups] == [
            ("content … is not part of course …", 3, 2),
            ("event has no attemptId", 1, 3),
        ]
        assert kind_of("") == ""

    def test_without_a_choice_shows_no_event(self, hold: Hold) -> None:
        hold([event(1), event(2)])
        assert (found().total, found().number, found().latest) == (2, 0, [])

    def test_shows_the_latest_events_whatever_order_they_come_in(self, hold: Hold) -> None:
        numbers = [number * 7919 % 1000 for number in range(1000)]
        hold([event(number) for number in numbers])
        chosen = found(Choice(topic=TOPIC))
        assert chosen.number == 1000
        assert [shown.message.offset for shown in chosen.latest] == list(range(999, 999 - MAX_SHOWN, -1))

    def test_keeps_the_text_of_no_event_that_is_not_shown(self, hold: Hold) -> None:
        """20 MB on the topics, of which 2 MB are shown."""
        answers = "x" * 10_000
        tracemalloc.start()
        try:
            hold(event(number, answers=answers) for number in range(2_000))
            chosen = found(Choice(topic=TOPIC))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert (chosen.number, len(chosen.latest)) == (2_000, MAX_SHOWN)
        assert peak < 8_000_000

    def test_shows_a_large_event_up_to_a_bound(self, hold: Hold) -> None:
        large = event(answers="x" * 1_000_000)
        hold([large])
        (shown,) = found(Choice(topic=TOPIC)).latest
        assert shown.text == large.value()[:MAX_TEXT].decode()
        assert len(shown.text) + shown.left_out == len(large.value())

    def test_formats_an_event(self, hold: Hold) -> None:
        hold([event(7)])
        (shown,) = found(Choice(topic=TOPIC)).latest
        assert shown.text.startswith('{\n  "userId": "u-7",\n')
        assert (shown.place, shown.user_id, shown.left_out) == (f"{TOPIC}:1:7", "u-7", 0)

    @pytest.mark.parametrize("depth", [900, 5_000])
    def test_shows_an_event_of_deeply_nested_lists_as_it_came(self, hold: Hold, depth: int) -> None:
        value = b"[" * depth + b"]" * depth
        hold([Received(messages.Message(TOPIC, value))])
        (shown,) = found(Choice(topic=TOPIC)).latest
        assert shown.text == value.decode()


def groups_of(page: str) -> dict[str, str]:
    """The groups of a page, with their links."""
    found = re.findall(r'<th scope="row"><a href="([^"]+)">([^<]+)</a>', page)
    return {html.unescape(name): html.unescape(link) for link, name in found}


def places(page: str) -> list[str]:
    return re.findall(r'name="place" value="([^"]+)"', page)


@pytest.fixture
def client() -> TestClient:
    """A repairer at a desk that is not connected to its servers."""
    headers = {"authorization": f"Bearer {REPAIRER}"}
    return TestClient(create_application(CONFIG), base_url="https://desk.test", headers=headers)


class TestThePage:
    def test_shows_of_a_group_what_the_group_counts(self, client: TestClient, hold: Hold) -> None:
        reasons = ["", "event has no attemptId", " of Scala: 7 lines\n", ""]
        hold([event(number, reason) for number, reason in enumerate(reasons)])
        links = groups_of(client.get("/failed").text)
        assert {name: len(places(client.get(link).text)) for name, link in links.items()} == {
            "no reason": 2,
            "event has no attemptId": 1,
            " of Scala: … lines\n": 1,
        }

    def test_names_what_it_shows(self, client: TestClient, hold: Hold) -> None:
        hold([event(1, ""), event(2), event(3, topic=OTHER_TOPIC)])
        for query, heading in {
            f"topic={TOPIC}&reason=": "Events without a reason: 1",
            "reason=event has no attemptId": "Events with the reason “event has no attemptId”: 2",
            f"topic={TOPIC}": f"Events on {TOPIC}: 2",
        }.items():
            assert f'<h2 id="events">{heading}</h2>' in client.get(f"/failed?{query}").text

    def test_shows_the_events_of_a_learner_that_the_learners_page_counts(self, client: TestClient, hold: Hold) -> None:
        asha = {"userId": "asha", "courseId": "do_course"}
        ours = [
            event(1, **asha, batchId="batch"),
            Received(messages.Message(TOPIC, json.dumps({**asha, "batchId": "batch"}).encode()), 2),  # by a Scala job
            event(3, edata={"userIds": ["ravi", "asha"]}, userId=None),
            event(4, **asha),
        ]
        others = [event(5, **asha, batchId="other"), event(6, userId="ravi", note="asha")]
        hold([*ours, *others])
        counted = topic_search.failed_for(CONFIG.kafka, KEY).messages
        page = client.get("/failed", params={"user": "asha", "course": "do_course", "batch": "batch"}).text
        assert "Events of the learner asha: 4" in page
        assert [int(place.rpartition(":")[2]) for place in reversed(places(page))] == [
            message.offset for message in counted
        ]

    def test_is_not_shown_for_half_a_learner(self, client: TestClient, hold: Hold) -> None:
        hold([event(1)])
        assert client.get("/failed", params={"user": "asha"}).status_code == 400

    async def test_searches_once_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        running: list[int] = []
        at_once: list[int] = []

        def search(*_: object) -> FailedEvents:
            running.append(1)
            at_once.append(len(running))
            time.sleep(0.05)  # the other ones would begin meanwhile
            running.pop()
            return FailedEvents([], 0, [], None)

        monkeypatch.setattr(failed_pages, "failed_events", search)
        transport = httpx.ASGITransport(create_application(CONFIG))
        async with httpx.AsyncClient(transport=transport, base_url="https://desk.test", headers=BEARER) as client:
            answers = await asyncio.gather(*(client.get("/failed") for _ in range(3)))
        assert [answer.status_code for answer in answers] == [200] * 3
        assert at_once == [1, 1, 1]
