"""``python -m benchmarks json``: orjson, msgspec and json where the jobs read and write JSON without a declared type.

One process, no server. The libraries take turns, and the best of several rounds counts, so that other load on the
machine changes the ratios little.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import orjson

from common.domain import messages
from local.world import World

SERVERS: frozenset[str] = frozenset()
ROUNDS = 15
SECONDS_PER_ROUND = 0.02

Work = Callable[[], object]


class _Content(msgspec.Struct):
    """The members of a content that a job reads: what typed decoding costs instead."""

    name: Any = None
    contentType: Any = None  # noqa: N815


_CONTENT = msgspec.json.Decoder(_Content)
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_ENCODER = msgspec.json.Encoder()


def run(world: World) -> None:
    """Prints the time per document of each library, and its ratio to msgspec's. ``world`` has no servers."""
    ids = {"user_id": "8454cb21-3ce9-4e30-85b5-fade097880d8", "course_id": "do_31309287232935526411138"}
    request = messages.certificate_request("t", "Job", **ids, batch_id="0130929928739635200", time_ms=1_715_657_560_002)
    audit = messages.audit(
        "t", "Job", action="complete", props=("viewcount",), **ids, batch_id="0130929928739635200", time_ms=1
    )
    for name, value in (
        ("certificate request", request.value),
        ("AUDIT event", audit.value),
        ("certificate", _encoded(_certificate())),
    ):
        _compare(f"write a {name}", value, _writing(json.loads(value)))
    for name, document in (("user read API", _user()), ("content read API", _content_answer())):
        value = _encoded(document)
        _compare(f"read an answer of the {name}", value, _reading(value))
    content = _encoded(_content())
    _compare(
        "read a content of the cache", content, _reading(content) | {"msgspec, typed": lambda: _CONTENT.decode(content)}
    )
    event = _encoded({"edata": _content(), "ets": 1})
    _compare(
        "wrap an event for the failed topic",
        event,
        {
            "msgspec": lambda: messages.failed("t", "Job", event, "reason", "u-1"),
            "orjson": lambda: orjson.dumps({**orjson.loads(event), "metadata": {"validation_error": "reason"}}),
            "json": lambda: json.dumps({**json.loads(event), "metadata": {"validation_error": "reason"}}).encode(),
        },
    )


def _writing(document: Any) -> dict[str, Work]:
    return {
        "msgspec": lambda: _ENCODER.encode(document),
        "orjson": lambda: orjson.dumps(document),
        "json": lambda: json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode(),
    }


def _reading(value: bytes) -> dict[str, Work]:
    return {
        "msgspec": lambda: _OBJECT.decode(value),
        "orjson": lambda: orjson.loads(value),
        "json": lambda: json.loads(value),
    }


def _compare(what: str, value: bytes, works: dict[str, Work]) -> None:
    best = dict.fromkeys(works, float("inf"))
    for _ in range(ROUNDS):
        for library, work in works.items():
            best[library] = min(best[library], _seconds_per_call(work))
    reference = best["msgspec"]
    times = "   ".join(
        f"{library} {seconds * 1e6:6.2f} us ({seconds / reference:.2f})" for library, seconds in best.items()
    )
    print(f"  {what:<40} {len(value):>6} bytes   {times}", flush=True)


def _seconds_per_call(work: Work) -> float:
    calls, end = 0, time.perf_counter() + SECONDS_PER_ROUND
    started = time.perf_counter()
    while True:
        for _ in range(20):
            work()
        calls += 20
        now = time.perf_counter()
        if now >= end:
            return (now - started) / calls


def _encoded(document: object) -> bytes:
    return msgspec.json.encode(document)


def _user() -> dict[str, Any]:
    locations = [{"code": f"29{n}", "name": f"Bengaluru {n}", "id": f"loc-{n}", "type": "district"} for n in range(3)]
    organisations = [
        {"organisationId": f"org-{n}", "orgName": "School", "roles": ["PUBLIC"], "isDeleted": False} for n in range(3)
    ]
    response = {
        "id": "u-1",
        "firstName": "Asha",
        "lastName": "Rao",
        "rootOrgId": "org-1",
        "userLocations": locations,
        "organisations": organisations,
        "roles": [{"role": "PUBLIC", "scope": []}],
        "externalIds": [{"id": "x-1", "idType": "state", "provider": "state"}],
        "framework": {"board": ["CBSE"], "medium": ["English"], "gradeLevel": [f"Class {n}" for n in range(10)]},
        "flagsValue": 3,
        "createdDate": "2024-05-14 03:32:40:200+0000",
    }
    return {"id": "api.user.read", "ver": "v1", "responseCode": "OK", "result": {"response": response}}


def _content() -> dict[str, Any]:
    return {
        "name": "Botany: how plants feed themselves",
        "contentType": "SelfAssess",
        "totalQuestions": 10,
        "identifier": "do_31309287232935526411138",
        "description": "पौधे अपना भोजन कैसे बनाते हैं" * 10,
        "keywords": [f"keyword {n}" for n in range(20)],
        "children": [
            {"identifier": f"do_{n}", "name": f"Unit {n}", "index": n, "visibility": "Parent"} for n in range(30)
        ],
        "size": 1_234_567.0,
        "variants": {"spine": {"ecarUrl": "https://storage.example.org/spine.ecar", "size": "34567"}},
    }


def _content_answer() -> dict[str, Any]:
    return {"id": "api.content.read", "ver": "3.0", "responseCode": "OK", "result": {"content": _content()}}


def _certificate() -> dict[str, Any]:
    return {
        "actor": {"id": "Certificate Generator", "type": "System"},
        "eid": "BE_JOB_REQUEST",
        "edata": {
            "issuedDate": "2024-05-14",
            "data": [{"recipientName": "Asha Rao", "recipientId": "u-1"}],
            "criteria": {"narrative": "Completion"},
            "svgTemplate": "https://storage.example.org/sunbird-content-dev/template.svg",
            "oldId": "",
            "templateId": "do_113",
            "userId": "u-1",
            "orgId": "org-1",
            "issuer": {"name": "Gujarat Council", "url": "https://example.org/"},
            "signatoryList": [{"image": "https://example.org/s.png", "name": "CEO", "id": "CEO", "designation": "CEO"}],
            "courseName": "Botany",
            "basePath": "https://certificates.example.org/certs",
            "related": {"batchId": "0130929928739635200", "courseId": "do_1", "type": "Completion"},
            "name": "Completion",
            "tag": "0130929928739635200",
        },
        "ets": 1_715_657_560_002,
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.learning.platform"}},
        "mid": "LMS.0c3f4e3e-5d5a-5b5c-9f0a-2c4f5e6a7b8c",
        "object": {"id": "u-1", "type": "GenerateCertificate"},
    }
