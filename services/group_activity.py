"""Group aggregates read: the merged aggregates of a group's members in an activity. Pure."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from common.domain.aggregates import merge
from services.envelope import client_error, convert, forbidden, invalid_request

Member = Mapping[str, Any]
"""A member as the group service describes it."""


class GroupActivityRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What is asked for. ``activityType`` is only echoed: the rows of courses and of units have the type ``Course``."""

    group_id: str | None = None
    activity_id: Annotated[str | None, Meta(description="a course or one of its units")] = None
    activity_type: str | None = None


class GroupActivityQuery(NamedTuple):
    """A checked request."""

    group_id: str
    activity_id: str
    activity_type: str

    @property
    def cache_key(self) -> str:
        """The Redis key of the cached answer."""
        return f"{self.group_id}:{self.activity_id}:{self.activity_type}:activity-agg"


class AggregatesRow(NamedTuple):
    """A row of ``user_activity_agg``: one learner in one batch.

    The first two maps may be null, or they are JSON texts made by Cassandra, in which a double that is no number is
    null. A time that cannot be used is None.
    """

    user_id: str
    agg: str | None
    aggregates: str | None
    agg_last_updated_ms: Mapping[str, int | None]


# An answer may have more than ten thousand of these, which Python's cyclic collector would look at again and again.
class Metric(msgspec.Struct, rename="camel", gc=False):
    """One key of the merged map."""

    metric: Annotated[str, Meta(examples=["score:do_1128870328040161281204"])]
    last_updated_on: Annotated[int | None, Meta(description="ms since 1970")]
    value: float


class EnrolmentCount(msgspec.Struct, rename="camel"):
    """The number of learners. It is a whole number, whereas the metrics of a member are doubles."""

    metric: str
    last_updated_on: int
    value: int


class Activity(msgspec.Struct):
    """The activity and its number of learners."""

    id: str
    type: str
    agg: list[EnrolmentCount]


class MemberAggregates(msgspec.Struct, rename="camel"):
    """A member in one batch. Members that the group service did not send are left out."""

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
    """The part of a cached answer that is read."""

    result: GroupActivity


_METRICS = msgspec.json.Decoder(dict[str, float | None] | None)
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
    """The members by user id, without those that have no id or were removed; of several with one id, the first."""
    by_id: dict[str, Member] = {}
    for member in members:
        user_id = member.get("userId")
        if isinstance(user_id, str) and user_id.strip() and not member.get("removedOn"):
            by_id.setdefault(user_id, member)
    return by_id


def check_member(members: Collection[str], user_ids: Collection[str]) -> None:
    """Raises ApiError 403 unless one of ``user_ids``, those of the caller's tokens, is in ``members``.

    Without this any learner could read the scores of any group by its id. A group without members hides nothing.
    """
    if members and not any(user_id in members for user_id in user_ids):
        raise forbidden("Only members of the group can read it.")


def usable(cached: GroupActivity, query: GroupActivityQuery, user_ids: Collection[str]) -> bool:
    """Whether a cached answer belongs to this query and shows that the caller is a member.

    Ids may contain colons, so two queries can have the same key. A member without a row is not in the answer.
    """
    cached_query = (cached.group_id, cached.activity.id, cached.activity.type)
    return cached_query == query and any(member.user_id in user_ids for member in cached.members)


def shape(
    query: GroupActivityQuery, members: Mapping[str, Member], rows: Sequence[AggregatesRow], now_ms: int
) -> GroupActivity:
    """The result. It has one entry per row: a member in two batches has two, a member without a row has none.

    The time of the count is the latest of all times, or ``now_ms`` if there is none.
    """
    times_ms: set[int | None] = set()
    entries = [_entry(members[row.user_id], row, times_ms) for row in rows]
    latest = max((time_ms for time_ms in times_ms if time_ms is not None), default=now_ms)
    count = EnrolmentCount("enrolmentCount", latest, len({row.user_id for row in rows}))
    return GroupActivity(query.group_id, Activity(query.activity_id, query.activity_type, [count]), entries)


def _entry(member: Member, row: AggregatesRow, times_ms: set[int | None]) -> MemberAggregates:
    """A member in one batch. The times of the metrics are added to ``times_ms``."""
    merged = merge(_metrics(row.agg), _metrics(row.aggregates))
    times = list(map(row.agg_last_updated_ms.get, merged))
    times_ms.update(times)
    return MemberAggregates(
        user_id=row.user_id,
        agg=list(map(Metric, merged, times, merged.values())),
        name=_present(member, "name"),
        role=_present(member, "role"),
        status=_present(member, "status"),
        created_by=_present(member, "createdBy"),
    )


def _metrics(column: str | None) -> dict[str, float]:
    metrics = (_METRICS.decode(column) if column else None) or {}
    return {key: math.nan if value is None else value for key, value in metrics.items()}


def _present(member: Member, name: str) -> Any | UnsetType:
    return member.get(name, UNSET)
