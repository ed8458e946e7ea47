"""Messages to other services: certificate requests, AUDIT events, failed events. Pure.

Ids are deterministic (rule G5): an event that is processed twice sends messages with the same ids, so that a consumer
can drop repeats.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Literal

import msgspec
import orjson

from common.domain.events import BadEvent

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://sunbird.org/learner-aggregates")
"""The namespace of every id of the suite. With another value, repeats would look new after an upgrade."""

_NAMESPACE_HASH = sha1(NAMESPACE.bytes, usedforsecurity=False)

ISSUE_CERTIFICATE = "issue-certificate"
SYNC_ENROLMENT = "user-enrolment-sync"


@dataclass(frozen=True, slots=True)
class Message:
    """A record for Kafka. ``topic`` is the topic's name in the cluster; ``key`` is None for a record without a key."""

    topic: str
    value: bytes
    key: bytes | None = None


def deterministic_uuid(*identity: str | int) -> str:
    """The uuid5 of an effect's identity. Parts are kept apart: ``("a", "bc")`` differs from ``("ab", "c")``."""
    return _uuid5(msgspec.json.encode(identity))


def _uuid5(name: bytes) -> str:
    """``str(uuid.uuid5(NAMESPACE, name))`` in a quarter of the time. An AUDIT event has three ids."""
    with_name = _NAMESPACE_HASH.copy()
    with_name.update(name)
    digest = with_name.hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def certificate_request(
    topic: str,
    job: str,
    *,
    user_id: str,
    course_id: str,
    batch_id: str,
    cause: Sequence[str] = (),
    time_ms: int,
    attempt_id: str | None = None,
) -> Message:
    """The request to check whether a learner has earned a certificate (topic ``issue.certificate.request``).

    ``time_ms`` is the time of the event that caused it. ``cause`` (content id, attempt id) distinguishes two causes of
    the same enrolment in the same ms. ``attempt_id`` None leaves the field out; ``""`` does not.
    """
    identity = deterministic_uuid(job, user_id, course_id, batch_id, *cause, ISSUE_CERTIFICATE, time_ms)
    edata: dict[str, Any] = {
        "userIds": [user_id],
        "action": ISSUE_CERTIFICATE,
        "iteration": 1,
        "trigger": "auto-issue",
        "batchId": batch_id,
        "courseId": course_id,
        "reIssue": False,
    }
    if attempt_id is not None:
        edata["attemptId"] = attempt_id
    event = {
        "eid": "BE_JOB_REQUEST",
        "ets": time_ms,
        "mid": f"LP.{time_ms}.{identity}",
        "actor": {"id": "Course Certificate Generator", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
        "object": {"id": f"{batch_id}_{course_id}", "type": "CourseCertificateGeneration"},
        "edata": edata,
    }
    return Message(topic, orjson.dumps(event))


def enrolment_sync(topic: str, *, user_id: str, course_id: str, batch_id: str, time_ms: int) -> Message:
    """The request to bring an enrolment in line with the stored contents (topic ``batch.enrolment.sync.request``).

    It is what the learner's button "Sync progress now" sends. ``time_ms`` is the time of the request; it becomes the
    time of completion if the sync completes the enrolment.
    """
    identity = deterministic_uuid(user_id, course_id, batch_id, SYNC_ENROLMENT, time_ms)
    event = {
        "eid": "BE_JOB_REQUEST",
        "ets": time_ms,
        "mid": f"LP.{time_ms}.{identity}",
        "actor": {"id": "Course Batch Updater", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
        "object": {"id": f"{batch_id}_{user_id}", "type": "CourseBatchEnrolment"},
        "edata": {
            "action": SYNC_ENROLMENT,
            "iteration": 1,
            "batchId": batch_id,
            "userId": user_id,
            "courseId": course_id,
        },
    }
    return Message(topic, orjson.dumps(event), user_id.encode())


def audit(
    topic: str,
    job: str,
    *,
    action: str,
    props: Sequence[str],
    user_id: str,
    course_id: str,
    batch_id: str,
    content_id: str | None = None,
    time_ms: int,
) -> Message:
    """The AUDIT event (telemetry v3, topic ``telemetry.raw``) of a change that a learner made at ``time_ms``.

    ``action`` is its ``edata.type``; ``props`` are the columns that changed. It is about a content or, if
    ``content_id`` is None, about the learner's enrolment.
    """
    identity = msgspec.json.encode((job, user_id, course_id, batch_id, content_id or "", action, time_ms))
    context_data = [{"type": "CourseBatch", "id": batch_id}]
    if content_id is None:
        context_data.append({"type": "Course", "id": course_id})
    event = {
        "actor": {"id": user_id, "type": "User"},
        "eid": "AUDIT",
        "edata": {"props": props, "type": action},
        "ver": "3.0",
        "syncts": time_ms,
        "ets": time_ms,
        "context": {
            "channel": "in.sunbird",
            "env": "Course",
            "sid": _uuid5(identity + b"sid"),
            "did": _uuid5(identity + b"did"),
            "pdata": {"ver": "3.0", "id": "org.sunbird.learning.platform", "pid": "course-progress-updater"},
            "cdata": context_data,
        },
        "mid": f"LP.AUDIT.{_uuid5(identity)}",
        "object": {
            "id": user_id if content_id is None else content_id,
            "type": "User" if content_id is None else "Content",
            "rollup": {"l1": course_id},
        },
        "tags": [],
    }
    return Message(topic, orjson.dumps(event))


ASSESSMENT_API = "AssessmentApi"
"""The ``src`` of the failed-topic messages of the API that takes attempts. Those of a job have the job's name."""

_Members = dict[str, msgspec.Raw]
"""A JSON object whose values are kept as the bytes that came: no number loses digits, and keys keep their order."""

_MEMBERS = msgspec.json.Decoder(_Members)

_ORIGINAL = "original"
_OUR_METADATA = frozenset({"validation_error", "src", "encoding", _ORIGINAL})


class _FailedMetadata(msgspec.Struct):
    validation_error: str
    src: str
    encoding: Literal["base64"] | None = None


class _Failed(msgspec.Struct):
    metadata: _FailedMetadata


class _Wrapped(msgspec.Struct):
    metadata: dict[str, str]
    payload: bytes
    """msgspec reads and writes bytes as base64."""


def failed(topic: str, job: str, value: bytes, reason: str, user_id: str | None = None) -> Message:
    """The failed-topic message of an event.

    ``value`` is the Kafka value as received. ``reason`` is one sentence for whoever reads the topic. ``user_id``
    becomes the Kafka key; if it is None, the event is searched for one. The event's members are kept, with ``metadata``
    added or, where it exists, extended. Metadata that cannot be extended without loss (not an object, an empty one, one
    that has our keys) is kept whole under ``original``. A value that is not a JSON object is wrapped in base64.
    """
    ours = {"validation_error": reason, "src": job}
    try:
        value.decode()
        members = _MEMBERS.decode(value)
    except (UnicodeDecodeError, RecursionError, msgspec.DecodeError):
        wrapped = _Wrapped({**ours, "encoding": "base64"}, value)
        return Message(topic, msgspec.json.encode(wrapped), _key(user_id))
    metadata = {**_existing_metadata(members), **ours}
    key = _key(user_id or _user_id(members) or _user_id(_object(members.get("edata")) or {}))
    return Message(topic, msgspec.json.encode({**members, "metadata": metadata}), key)


def repaired(value: bytes) -> bytes:
    """The event in a failed-topic message, to be sent to the input topic again. The inverse of :func:`failed`.

    Raises BadEvent ``not_failed`` if ``value`` is not a message of a failed topic.
    """
    try:
        value.decode()
        if msgspec.json.decode(value, type=_Failed).metadata.encoding is not None:
            return msgspec.json.decode(value, type=_Wrapped).payload
        members = _MEMBERS.decode(value)
        metadata = _MEMBERS.decode(members.pop("metadata"))
    except (UnicodeDecodeError, RecursionError, msgspec.DecodeError) as error:
        raise BadEvent("not_failed", f"value is no message of a failed topic: {error}") from error
    existing: Any = metadata.get(_ORIGINAL) or {key: raw for key, raw in metadata.items() if key not in _OUR_METADATA}
    return msgspec.json.encode({**members, "metadata": existing} if existing else members)


def _existing_metadata(members: _Members) -> _Members:
    raw = members.get("metadata")
    if raw is None:
        return {}
    metadata = _object(raw)
    return metadata if metadata and not _OUR_METADATA & metadata.keys() else {_ORIGINAL: raw}


def _object(raw: msgspec.Raw | None) -> _Members | None:
    try:
        return None if raw is None else _MEMBERS.decode(raw)
    except msgspec.ValidationError:
        return None


def _user_id(members: Mapping[str, msgspec.Raw]) -> str | None:
    try:
        return msgspec.json.decode(members.get("userId", b"null"), type=str | None)
    except msgspec.ValidationError:
        return None


def _key(user_id: str | None) -> bytes | None:
    return user_id.encode() if user_id else None
