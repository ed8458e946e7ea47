"""Group aggregates read: the merged aggregates of a group's members in an activity. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from common.domain.aggregates import merge
from services.envelope import client_error, convert, invalid_request

Member = Mapping[str, Any]
"""A member as the group service describes it."""


class GroupActivityRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What is asked for. ``activityType`` is only echoed: rows of courses and units alike have the type Course."""

    group_id: str | None = None
    activity_id: str | None = None
    activity_type: str | None = None


class GroupActivityQuery(NamedTuple):
    """A checked request."""

    group_id: str
    activity_id: str
    activity_type: str

    @property
    def cache_key(self) -> str:
        """Where the answer is cached in Redis."""
        return f"{self.group_id}:{self.activity_id}:{self.activity_type}:activity-agg"


class AggregatesRow(NamedTuple):
    """A row of ``user_activity_agg``: a learner in one batch. Any of the maps may be null; times are in ms."""

    user_id: str
    agg: Mapping[str, int] | None
    aggregates: Mapping[str, float] | None
    agg_last_updated: Mapping[str, int] | None


class Metric(msgspec.Struct, rename="camel"):
    """One key of the merged map; ``lastUpdatedOn`` in ms."""

    metric: str
    last_updated_on: int | None
    value: float


class EnrolmentCount(msgspec.Struct, rename="camel"):
    """The number of learners, a whole number where metrics of a member are doubles."""

    metric: str
    last_updated_on: int
    value: int


class Activity(msgspec.Struct):
    """The activity and its number of learners."""

    id: str
    type: str
    agg: list[EnrolmentCount]


class MemberAggregates(msgspec.Struct, rename="camel"):
    """A member in one batch; what the group service did not say is left out."""

    user_id: str
    agg: list[Metric]
    name: Any = UNSET
    role: Any = UNSET
    status: Any = UNSET
    created_by: Any = UNSET


class GroupActivity(msgspec.Struct, rename="camel"):
    """The result."""

    group_id: str
    activity: Activity
    members: list[MemberAggregates]


class CachedAnswer(msgspec.Struct):
    """The cached answer, as far as it is read back."""

    result: GroupActivity


CACHED_ANSWER = msgspec.json.Decoder(CachedAnswer)


def parse(request: Mapping[str, Any]) -> GroupActivityQuery:
    """Checks a request. Raises ApiError."""
    if not request:
        raise invalid_request()
    asked = convert(request, GroupActivityRequest)
    return GroupActivityQuery(
        _required(asked.group_id, "GROUP_ID_MISSING", "GroupId"),
        _required(asked.activity_id, "ACTIVITY_ID_MISSING", "ActivityId"),
        _required(asked.activity_type, "ACTIVITY_TYPE_MISSING", "ActivityType"),
    )


def _required(value: str | None, code: str, name: str) -> str:
    if value is None or not value.strip():
        raise client_error(code, f"{name} is mandatory.")
    return value


def members_by_id(members: Sequence[Member]) -> dict[str, Member]:
    """The members that have an id, the first of each id."""
    by_id: dict[str, Member] = {}
    for member in members:
        user_id = member.get("userId")
        if isinstance(user_id, str) and user_id.strip():
            by_id.setdefault(user_id, member)
    return by_id


def may_read(members: Mapping[str, Member], user_ids: Collection[str]) -> bool:
    """Whether one of ``user_ids``, those of the caller's tokens, is a member; a group without members hides nothing.

    Without this any learner could read the scores of any group by its id.
    """
    return not members or any(user_id in members for user_id in user_ids)


def usable(cached: GroupActivity, query: GroupActivityQuery, user_ids: Collection[str]) -> bool:
    """Whether a cached answer is to this question and shows that the caller is a member.

    Ids may hold colons, so two questions may share a key; and a member without a row is not in the answer.
    """
    question = (cached.group_id, cached.activity.id, cached.activity.type)
    return question == query and any(member.user_id in user_ids for member in cached.members)


def shape(
    query: GroupActivityQuery, members: Mapping[str, Member], rows: Sequence[AggregatesRow], now_ms: int
) -> GroupActivity:
    """The result: one entry per row, so a member in two batches has two; those without a row do not appear.

    The count's time is the latest of all, and ``now_ms`` where there is none.
    """
    entries = [_entry(members[row.user_id], row) for row in rows]
    times = [metric.last_updated_on for entry in entries for metric in entry.agg if metric.last_updated_on is not None]
    count = EnrolmentCount("enrolmentCount", max(times, default=now_ms), len({row.user_id for row in rows}))
    return GroupActivity(query.group_id, Activity(query.activity_id, query.activity_type, [count]), entries)


def _entry(member: Member, row: AggregatesRow) -> MemberAggregates:
    times = row.agg_last_updated or {}
    metrics = []
    for key, value in merge(row.agg, row.aggregates).items():
        metrics.append(Metric(key, times.get(key), value))
    return MemberAggregates(
        user_id=row.user_id,
        agg=metrics,
        name=_present(member, "name"),
        role=_present(member, "role"),
        status=_present(member, "status"),
        created_by=_present(member, "createdBy"),
    )


def _present(member: Member, name: str) -> Any | UnsetType:
    return member.get(name, UNSET)
