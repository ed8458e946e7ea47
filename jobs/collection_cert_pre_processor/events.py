"""The requests to check whether learners have earned a certificate (topic ``issue.certificate.request``). Pure."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from common.domain import events
from common.domain.events import BadEvent, Skip, check_key_length, growth_limit

JOB = "CollectionCertPreProcessor"
ACTION = "issue-certificate"


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """A valid request. ``user_ids`` has at least one id, no blank ones and no duplicates; ``time_ms`` is the
    ``ets``."""

    user_ids: tuple[str, ...]
    course_id: str
    batch_id: str
    re_issue: bool
    time_ms: int


class _Action(msgspec.Struct):
    """The field may have any type, because other services use the topic too and may use the same name."""

    action: Any = None


class _AnyEvent(msgspec.Struct):
    edata: _Action | None = None


class _Edata(msgspec.Struct, rename="camel"):
    batch_id: str | None = None
    course_id: str | None = None
    user_ids: list[str] | None = None
    re_issue: bool | None = None


class _Event(msgspec.Struct):
    edata: _Edata
    ets: int | float | None = None


_ANY_EVENT = msgspec.json.Decoder(_AnyEvent)
_EVENT = msgspec.json.Decoder(_Event)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode(value: bytes, timestamp_ms: int) -> CertificateRequest | Skip:
    """Rule C1: decodes one Kafka value. ``timestamp_ms`` is its Kafka timestamp, used if ``ets`` is missing.

    Skips events that are not valid requests, because other services use the topic too: ``other_action``, also for an
    event without an action, ``no_batch``, ``no_course``, ``no_user``. Raises BadEvent for a value that is not a JSON
    object, and for a field of the wrong type in a request, and ``too_large`` for one whose copies, one for each user,
    would take too many bytes, or whose ids do not fit into the keys of the tables. The fields of other actions are not
    checked.
    """
    any_edata = events.decode(_ANY_EVENT, value).edata
    action = any_edata.action if any_edata else None
    if not isinstance(action, str) or action.lower() != ACTION:
        return Skip("other_action")
    event = events.decode(_EVENT, value)
    edata = event.edata
    user_ids = tuple(dict.fromkeys(user_id for user_id in edata.user_ids or () if user_id.strip()))
    if not edata.batch_id or not edata.batch_id.strip():
        return Skip("no_batch")
    if not edata.course_id or not edata.course_id.strip():
        return Skip("no_course")
    if not user_ids:
        return Skip("no_user")
    _check_key_lengths(user_ids, edata.course_id, edata.batch_id)
    _check_growth(value, len(user_ids))
    return CertificateRequest(
        user_ids=user_ids,
        course_id=edata.course_id,
        batch_id=edata.batch_id,
        re_issue=edata.re_issue is True,
        time_ms=events.require_time_ms("ets", timestamp_ms if event.ets is None else event.ets),
    )


def _check_key_lengths(user_ids: tuple[str, ...], course_id: str, batch_id: str) -> None:
    longest = max(user_ids, key=lambda user_id: len(user_id.encode()))
    check_key_length("userId and courseId", longest, course_id)
    check_key_length("courseId and batchId", course_id, batch_id)


def _check_growth(value: bytes, users: int) -> None:
    """A user id takes 39 bytes, so requests with up to 600 bytes beside the ids are fine. Those of Sunbird have 450."""
    limit = growth_limit(len(value))
    # Most requests are too small to be measured more exactly.
    if users * len(value) > limit and (copies := users * len(narrowed(value, ""))) > limit:
        raise BadEvent(
            "too_large",
            f"event has {users} users in edata.userIds and too much beside them: copies of it, one for each user, "
            f"have {copies} bytes and may have {limit}",
        )


def narrowed(value: bytes, user_id: str) -> bytes:
    """Rule C1: the event ``value``, which :func:`decode` accepted, reduced to one of its users.

    This form goes to the failed topic, so that a replay repeats no other user's certificate: the generator issues again
    whenever it is asked to.
    """
    event, edata = _members(value)
    of_user = msgspec.json.encode({**edata, "userIds": [user_id]})
    return msgspec.json.encode({**event, "edata": msgspec.Raw(of_user)})


# All users of a request that fails come one after the other. To read it again for each took 2 ms per user and MB.
@functools.lru_cache(maxsize=1)
def _members(value: bytes) -> tuple[Mapping[str, msgspec.Raw], Mapping[str, msgspec.Raw]]:
    """The members of the event and of its ``edata``."""
    event = _MEMBERS.decode(value)
    return event, _MEMBERS.decode(event["edata"])
