"""Realistic test data: courses, and the events of learners who attempt their quizzes and complete their contents.

All results depend only on the arguments (and the seed of the random source), so a run can be repeated.
"""

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

_QUESTIONS = (
    ("Which of these is a flower?", ("Rose", "Stone", "River", "Cloud")),
    ("How much is one half of 15?", ("7.5", "7", "8", "6.5")),
    ("Which planet is nearest to the sun?", ("Mercury", "Venus", "Earth", "Mars")),
    ("Which gas do plants take in?", ("Carbon dioxide", "Oxygen", "Nitrogen", "Helium")),
    ("Which number is prime?", ("13", "15", "21", "27")),
)


@dataclass(frozen=True, slots=True)
class Course:
    """A course, its units and their contents. Ids have the form that Sunbird uses: ``do_`` and digits."""

    course_id: str
    batch_id: str
    units: tuple[tuple[str, tuple[str, ...]], ...]
    """Pairs of a unit id and the ids of the contents in the unit."""

    @property
    def contents(self) -> tuple[str, ...]:
        """The ids of all leaf contents, in course order."""
        return tuple(content for _, contents in self.units for content in contents)

    @property
    def quizzes(self) -> tuple[str, ...]:
        """The ids of the contents that have a score: the last content of each unit."""
        return tuple(contents[-1] for _, contents in self.units)


def course(number: int, units: int = 4, contents_per_unit: int = 5) -> Course:
    """Course number ``number``. Courses with different numbers share no ids."""
    identity = f"do_2130{number:07d}"
    return Course(
        course_id=identity,
        batch_id=f"0130{number:09d}",
        units=tuple(
            (
                f"{identity}{unit:03d}",
                tuple(f"do_3128{number:06d}{unit:03d}{content:03d}" for content in range(contents_per_unit)),
            )
            for unit in range(units)
        ),
    )


def relation_sets(course: Course) -> dict[str, Sequence[str]]:
    """The Redis sets that describe a course in the relation cache, by key."""
    sets: dict[str, Sequence[str]] = {f"{course.course_id}:{course.course_id}:leafnodes": course.contents}
    for unit, contents in course.units:
        sets[f"{course.course_id}:{unit}:leafnodes"] = contents
        for content in contents:
            sets[f"{course.course_id}:{content}:ancestors"] = (course.course_id, unit)
    return sets


def certificate_templates(percent: float) -> dict[str, dict[str, str]]:
    """The column ``cert_templates`` of a batch with one template, for a best score of at least `percent`.

    The learner must also have completed the course.
    """
    texts: dict[str, object] = {
        "criteria": {"enrollment": {"status": 2}, "assessment": {"score": {">=": percent}}},
        "issuer": {"name": "Sunbird", "url": "https://sunbird.org"},
        "signatoryList": [
            {"name": "Head", "id": "head", "designation": "Head", "image": "https://sunbird.org/head.png"}
        ],
    }
    identifier = f"template_{percent:g}"
    return {
        identifier: {
            "identifier": identifier,
            "name": f"Course completion with {percent:g} percent",
            "url": "CLOUD_BASE_PATH/certificate.svg",
            **{name: _as_json(value) for name, value in texts.items()},
        }
    }


def attempt_id(user_id: str, content_id: str, number: int) -> str:
    """32 hexadecimal digits, like the attempt ids of the content players."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{user_id}|{content_id}|{number}").hex


@cache
def _item(content_id: str, number: int) -> dict[str, Any]:
    text, options = _QUESTIONS[number % len(_QUESTIONS)]
    params = [{str(index + 1): _as_json({"text": option})} for index, option in enumerate(options)]
    return {
        "id": f"{content_id}q{number}",
        "type": "mcq",
        "title": f"Question {number + 1}: {text}",
        "desc": f"Choose the one right answer. {text}",
        "uri": "",
        "maxscore": 1,
        "exlength": 0,
        "mmc": [],
        "mc": [],
        "params": [*params, {"answer": _as_json({"correct": ["1"]})}],
    }


def _as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def attempt(
    course: Course,
    user_id: str,
    content_id: str,
    number: int,
    scores: Sequence[float],
    time_ms: int,
) -> dict[str, Any]:
    """The event of attempt ``number`` at ``content_id``. ``scores`` has one score from 0 to 1 per question."""
    identity = attempt_id(user_id, content_id, number)
    return {
        "assessmentTs": time_ms,
        "userId": user_id,
        "batchId": course.batch_id,
        "courseId": course.course_id,
        "contentId": content_id,
        "attemptId": identity,
        "events": [
            _assess(course, user_id, content_id, identity, index, score, time_ms - 1000 * (len(scores) - index))
            for index, score in enumerate(scores)
        ],
    }


def _assess(
    course: Course, user_id: str, content_id: str, attempt: str, index: int, score: float, time_ms: int
) -> dict[str, Any]:
    item = _item(content_id, index)
    chosen = "1" if score else "2"
    return {
        "eid": "ASSESS",
        "ets": time_ms,
        "ver": "3.1",
        "mid": f"ASSESS:{uuid.uuid5(uuid.NAMESPACE_OID, f'{attempt}|{index}').hex}",
        "actor": {"id": user_id, "type": "User"},
        "context": {
            "channel": "0126632859575746566",
            "pdata": {"id": "prod.sunbird.app", "ver": "4.10.2", "pid": "sunbird.app.contentplayer"},
            "env": "contentplayer",
            "sid": uuid.uuid5(uuid.NAMESPACE_OID, user_id).hex,
            "did": uuid.uuid5(uuid.NAMESPACE_OID, f"device of {user_id}").hex,
            "cdata": [{"id": attempt, "type": "AttemptId"}, {"id": course.course_id, "type": "course"}],
            "rollup": {"l1": course.course_id, "l2": content_id},
        },
        "object": {"id": content_id, "type": "Content", "ver": "1", "rollup": {"l1": course.course_id}},
        "tags": [],
        "edata": {
            "index": index + 1,
            "pass": "Yes" if score else "No",
            "score": score,
            "duration": 4.5 + index,
            "resvalues": [{chosen: item["params"][int(chosen) - 1][chosen]}],
            "item": item,
        },
    }


def random_scores(source: random.Random, questions: int = 10) -> list[float]:
    """One score per question, in quarters of a point, as with partial credit."""
    return [source.choice((0, 0.25, 0.5, 0.75, 1)) for _ in range(questions)]


def completion(course: Course, user_id: str, content_ids: Sequence[str], time_ms: int) -> dict[str, Any]:
    """The event that the Course Service sends when a learner has completed contents."""
    identity = uuid.uuid5(uuid.NAMESPACE_OID, f"{user_id}|{course.batch_id}|{time_ms}|{content_ids}")
    return {
        "eid": "BE_JOB_REQUEST",
        "ets": time_ms,
        "mid": f"LP.{time_ms}.{identity}",
        "actor": {"id": "Course Batch Updater", "type": "System"},
        "context": {"pdata": {"id": "org.sunbird.platform", "ver": "1.0"}},
        "object": {"id": f"{course.batch_id}_{user_id}", "type": "CourseBatchEnrolment"},
        "edata": {
            "userId": user_id,
            "batchId": course.batch_id,
            "courseId": course.course_id,
            "contents": [{"contentId": content_id, "status": 2} for content_id in content_ids],
            "action": "batch-enrolment-update",
            "iteration": 1,
        },
    }


def encode(event: dict[str, Any]) -> bytes:
    """The event as the value of a Kafka record."""
    return msgspec.json.encode(event)
