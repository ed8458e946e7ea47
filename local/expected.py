"""What the jobs must write and send, computed from what was sent to them. It shares no code with the rules it checks.

The demo, the oracle of `make chaos` and the tests compare rows and messages with it. Message ids are left out: a check
only needs to know that equal messages have equal ids.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from local.generator import Course


def content_aggregates(content_id: str, attempts: Sequence[tuple[float, float]]) -> dict[str, float]:
    """The entries of ``aggregates`` for one content.

    ``attempts`` are score and maximum score of each submitted attempt, in the order of the attempt ids; at least one.
    """
    best_score, max_score = max(attempts, key=lambda score_and_max: score_and_max[0])
    return {
        f"score:{content_id}": best_score,
        f"max_score:{content_id}": max_score,
        f"attempts_count:{content_id}": float(len(attempts)),
    }


def questions(attempt: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The column ``question`` of an attempt, whose event has each question once: its fields by name, times in ms."""
    found = []
    for answer in attempt["events"]:
        edata, item = answer["edata"], answer["edata"]["item"]
        found.append(
            {
                "id": item["id"],
                "assess_ts": answer["ets"],
                "max_score": float(item["maxscore"]),
                "score": float(edata["score"]),
                "type": item["type"],
                "title": item["title"],
                "resvalues": list(_flattened(edata["resvalues"])),
                "params": list(_flattened(item["params"])),
                "description": item["desc"],
                "duration": Decimal(str(edata["duration"])),
            }
        )
    return found


def _flattened(values: Sequence[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flattened(value)
        else:
            yield value


def grand_total(score: float, max_score: float) -> str:
    """The column ``grand_total`` for scores in quarters of a point: ``7.25/10.0``."""
    return f"{_one_or_two_decimals(score)}/{_one_or_two_decimals(max_score)}"


def _one_or_two_decimals(score: float) -> str:
    whole, hundredths = divmod(round(score * 100), 100)
    return f"{whole}.{hundredths // 10}" + (str(hundredths % 10) if hundredths % 10 else "")


def attempt_detail(content_id: str, attempt_id: str, score: float, max_score: float, time_ms: int) -> dict[str, Any]:
    """The object whose JSON text is the attempt's element of ``agg_details``, with times in UTC."""
    time = datetime.fromtimestamp(time_ms // 1000, UTC)
    return {
        "attempt_id": attempt_id,
        "content_id": content_id,
        "last_attempted_on": f"{time:%b} {time.day}, {time.year}, {time.hour % 12 or 12}:{time:%M:%S %p}",
        "score": score,
        "max_score": max_score,
        "type": "attempt_metrics",
    }


def certificate_request(course: Course, user_id: str, time_ms: int) -> dict[str, Any]:
    """A message on ``issue.certificate.request``, without ``mid`` and ``edata.attemptId``."""
    return {
        "eid": "BE_JOB_REQUEST",
        "ets": time_ms,
        "actor": {"id": "Course Certificate Generator", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
        "object": {"id": f"{course.batch_id}_{course.course_id}", "type": "CourseCertificateGeneration"},
        "edata": {
            "userIds": [user_id],
            "action": "issue-certificate",
            "iteration": 1,
            "trigger": "auto-issue",
            "batchId": course.batch_id,
            "courseId": course.course_id,
            "reIssue": False,
        },
    }


def content_audit(course: Course, user_id: str, content_id: str, action: str, time_ms: int) -> dict[str, Any]:
    """The AUDIT event of a first view (``start``) or a first completion (``complete``), without its ids."""
    props = {"start": ["viewcount"], "complete": ["viewcount", "completedcount"]}[action]
    batch = {"type": "CourseBatch", "id": course.batch_id}
    return _audit(course, user_id, action, props, [batch], {"id": content_id, "type": "Content"}, time_ms)


def completion_audit(course: Course, user_id: str, time_ms: int) -> dict[str, Any]:
    """The AUDIT event of a completed enrolment, without its ids."""
    context = [{"type": "CourseBatch", "id": course.batch_id}, {"type": "Course", "id": course.course_id}]
    thing = {"id": user_id, "type": "User"}
    return _audit(course, user_id, "enrol-complete", ["status", "completedon"], context, thing, time_ms)


def _audit(
    course: Course,
    user_id: str,
    action: str,
    props: Sequence[str],
    context: Sequence[Mapping[str, str]],
    thing: Mapping[str, str],
    time_ms: int,
) -> dict[str, Any]:
    return {
        "eid": "AUDIT",
        "ver": "3.0",
        "ets": time_ms,
        "syncts": time_ms,
        "actor": {"id": user_id, "type": "User"},
        "edata": {"props": props, "type": action},
        "context": {
            "channel": "in.sunbird",
            "env": "Course",
            "pdata": {"ver": "3.0", "id": "org.sunbird.learning.platform", "pid": "course-progress-updater"},
            "cdata": context,
        },
        "object": {**thing, "rollup": {"l1": course.course_id}},
        "tags": [],
    }


def certificate(
    course: Course,
    user_id: str,
    *,
    template: Mapping[str, str],
    course_name: str,
    recipient_name: str,
    org_id: str,
    storage_url: str,
    domain_url: str,
    completed_on_ms: int,
    time_ms: int,
) -> dict[str, Any]:
    """A message on ``generate.certificate.request``, without ``mid``.

    ``template`` is a value of the column ``cert_templates``, without additional props. ``time_ms`` is the time of the
    request.
    """
    return {
        "eid": "BE_JOB_REQUEST",
        "ets": time_ms,
        "actor": {"id": "Certificate Generator", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.learning.platform"}},
        "object": {"id": user_id, "type": "GenerateCertificate"},
        "edata": {
            "issuedDate": f"{datetime.fromtimestamp(completed_on_ms // 1000, UTC):%Y-%m-%d}",
            "data": [{"recipientName": recipient_name, "recipientId": user_id}],
            "criteria": {"narrative": template["name"]},
            "svgTemplate": template["url"].replace("CLOUD_BASE_PATH", storage_url),
            "oldId": "",
            "templateId": template["identifier"],
            "userId": user_id,
            "orgId": org_id,
            "issuer": msgspec.json.decode(template["issuer"]),
            "signatoryList": msgspec.json.decode(template["signatoryList"]),
            "courseName": course_name,
            "basePath": f"{domain_url}/certs",
            "related": {"batchId": course.batch_id, "courseId": course.course_id, "type": template["name"]},
            "name": template["name"],
            "tag": course.batch_id,
        },
    }
