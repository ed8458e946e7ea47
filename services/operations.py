"""The operations of the API: paths, types and texts, from which routes and the OpenAPI document are made. Pure."""

from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from services.assessment import AssessmentsRequest, ReadRequest, Results, Scores
from services.content_state import ContentStateRequest, ContentStates
from services.envelope import CourseAnswer, ViewerAnswer
from services.group_activity import GroupActivity, GroupActivityRequest

Type = TypeVar("Type")


class RequestBody(msgspec.Struct, Generic[Type]):
    """What every request is wrapped in; other members may be there and are ignored."""

    request: Type


class Operation(NamedTuple):
    """One operation, on one or more paths, always with POST.

    ``viewer_api`` is the ``id`` of the answers of the viewer service, None for the course service.
    """

    name: str
    paths: tuple[str, ...]
    summary: str
    request: Any
    answer: Any
    error: Any
    viewer_api: str | None = None
    is_private: bool = False


_COURSE_ERROR = CourseAnswer[dict[str, str]]
_VIEWER_ERROR = ViewerAnswer[dict[str, str]]

OPERATIONS = (
    Operation(
        "content_state",
        ("/v1/content/state/read",),
        "How far the token's user is in the contents of a batch, with scores if they are asked for",
        RequestBody[ContentStateRequest],
        CourseAnswer[ContentStates],
        _COURSE_ERROR,
    ),
    Operation(
        "private_content_state",
        ("/private/v1/content/state/read",),
        "The same for any user; only for callers inside the cluster",
        RequestBody[ContentStateRequest],
        CourseAnswer[ContentStates],
        _COURSE_ERROR,
        is_private=True,
    ),
    Operation(
        "group_activity",
        ("/v1/group/activity/agg",),
        "The aggregates of a group's members in an activity",
        RequestBody[GroupActivityRequest],
        CourseAnswer[GroupActivity],
        _COURSE_ERROR,
    ),
    Operation(
        "submit",
        ("/v1/assess/submit", "/v1/assessment/submit"),
        "Hands attempts of the token's user to the assessment aggregator",
        RequestBody[AssessmentsRequest],
        ViewerAnswer[Results],
        _VIEWER_ERROR,
        "api.view.assess.submit",
    ),
    Operation(
        "save",
        ("/v1/assess/save",),
        "Keeps the answers of attempts that are still going on, without a score",
        RequestBody[AssessmentsRequest],
        ViewerAnswer[Results],
        _VIEWER_ERROR,
        "api.view.assess.save",
    ),
    Operation(
        "read",
        ("/v1/assess/read", "/v1/assessment/read"),
        "The best scores of the token's user in a batch",
        RequestBody[ReadRequest],
        ViewerAnswer[Scores],
        _VIEWER_ERROR,
        "api.view.assess.read",
    ),
)
