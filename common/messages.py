"""The messages that more than one job sends: certificate request, AUDIT event, failed event. Pure.

Ids are deterministic (:func:`message_id`): whoever processes an event twice sends byte-identical messages, and a
consumer that has seen one may drop its repeat.
"""

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from common.events import BadEvent

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://sunbird.org/learner-aggregates")
"""Namespace of every id of the suite; another value would make repeats look new after an upgrade."""

OUR_METADATA = ("validation_error", "src", "encoding")


@dataclass(frozen=True, slots=True)
class Message:
    """One record for Kafka. ``topic`` is the name of the topic in the cluster, ``key`` None for a record without one."""

    topic: str
    value: bytes
    key: bytes | None = None


def deterministic_uuid(*identity: str | int) -> str:
    """The uuid5 of an effect's identity. The parts are kept apart, so ``("a", "bc")`` differs from ``("ab", "c")``."""
    return str(uuid.uuid5(NAMESPACE, msgspec.json.encode(identity).decode()))


def certificate_request(
    topic: str,
    job: str,
    *,
    user_id: str,
    course_id: str,
    batch_id: str,
    time_ms: int,
    attempt_id: str | None = None,
    cause: str = "",
) -> Message:
    """The request to check whether a learner earned a certificate (topic ``issue.certificate.request``).

    ``time_ms`` is the time of the event that caused it. ``attempt_id`` None leaves the field out, ``""`` does not.
    ``cause`` tells two causes of one enrolment and ms apart (content id, attempt id).
    """
    identity = deterministic_uuid(job, "certificate", user_id, course_id, batch_id, cause, time_ms)
    edata: dict[str, Any] = {
        "userIds": [user_id],
        "action": "issue-certificate",
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
    return Message(topic, msgspec.json.encode(event))


class _UserIds(msgspec.Struct):
    userIds: msgspec.Raw | None = None  # noqa: N815
    userId: msgspec.Raw | None = None  # noqa: N815


_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def failed(topic: str, job: str, value: bytes, error: BadEvent, user_id: str | None = None) -> Message:
    """The failed-topic message of an event.

    ``value`` is the Kafka value as received, ``user_id`` becomes the Kafka key (read from the event where it is None). The
    event's members are passed on as the bytes they came as (no number loses digits, no key its order), with
    ``metadata`` added or extended. A value that is no JSON object is wrapped in base64.
    """
    ours: dict[str, Any] = {"validation_error": error.reason, "src": job}
    try:
        value.decode()
        members: dict[str, Any] = dict(_MEMBERS.decode(value))
    except (UnicodeDecodeError, RecursionError, msgspec.DecodeError):
        wrapped = {"metadata": {**ours, "encoding": "base64"}, "payload": base64.b64encode(value).decode()}
        return Message(topic, msgspec.json.encode(wrapped), _key(user_id))
    if user_id is None:
        user_id = _user_id_of(members)
    members["metadata"] = {**_existing_metadata(members.get("metadata")), **ours}
    return Message(topic, msgspec.json.encode(members), _key(user_id))


def repaired(value: bytes) -> bytes:
    """The event inside a failed-topic message, to be sent to the input topic again: the inverse of :func:`failed`.

    Raises BadEvent if ``value`` was not made by :func:`failed`.
    """
    try:
        members: dict[str, Any] = dict(_MEMBERS.decode(value))
        metadata = msgspec.json.decode(members.get("metadata", b"null"), type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise BadEvent("not_failed", f"value is no message of a failed topic: {error}") from error
    if not {"validation_error", "src"} <= metadata.keys():
        raise BadEvent("not_failed", "value is no message of a failed topic: its metadata lacks validation_error or src")
    if "encoding" in metadata:
        return base64.b64decode(msgspec.json.decode(members["payload"], type=str), validate=True)
    kept = {key: raw for key, raw in metadata.items() if key not in OUR_METADATA}
    if list(kept) == ["original"]:
        members["metadata"] = kept["original"]
    elif kept:
        members["metadata"] = kept
    else:
        del members["metadata"]
    return msgspec.json.encode(members)


def _existing_metadata(raw: msgspec.Raw | None) -> Mapping[str, Any]:
    if raw is None:
        return {}
    try:
        return msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return {"original": raw}


def _user_id_of(members: Mapping[str, msgspec.Raw]) -> str | None:
    for raw in (members.get("userId"), _edata_user_id(members.get("edata"))):
        try:
            user_id = msgspec.json.decode(raw, type=str | None) if raw is not None else None
        except msgspec.ValidationError:
            continue
        if user_id:
            return user_id
    return None


def _edata_user_id(raw: msgspec.Raw | None) -> msgspec.Raw | None:
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=_UserIds).userId
    except msgspec.ValidationError:
        return None


def _key(user_id: str | None) -> bytes | None:
    return user_id.encode() if user_id else None
