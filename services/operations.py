"""The operations of the APIs: paths, types, errors, examples. The source of routes and OpenAPI document. Pure."""

from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from services.assessment import AssessmentsRequest, FlatAssessmentRequest, Results
from services.assessment_scores import ReadRequest, Scores
from services.content_state import ContentStateRequest, ContentStates
from services.envelope import (
    EMPTY,
    INVALID,
    USER_ERROR,
    ApiError,
    CourseAnswer,
    ViewerAnswer,
    busy,
    client_error,
    forbidden,
    internal_error,
    invalid_fields,
    invalid_request,
    missing,
    server_error,
    too_large,
    unauthorized,
    wrong_type,
)
from services.group_activity import GroupActivity, GroupActivityRequest

Type = TypeVar("Type")


class RequestBody(msgspec.Struct, Generic[Type]):
    """The body of a request. Other members are ignored."""

    request: Type


class Link(NamedTuple):
    """Which operation a client may call next, and with which body: expressions of OpenAPI over request and answer."""

    operation: str
    body: Any


class Operation(NamedTuple):
    """One operation, always a POST, on one or more paths.

    A body has one of the types ``requests``, and its member ``request`` also fits the JSON schema ``request_schema``.
    ``errors`` has an example of each error, by when it occurs. ``viewer_api`` is the ``id`` of the viewer service's
    answers, None for the course service.
    """

    name: str
    paths: tuple[str, ...]
    summary: str
    requests: tuple[Any, ...]
    answer: Any
    error: Any
    errors: Mapping[str, ApiError]
    request_examples: Mapping[str, Any]
    result_example: Any
    request_schema: Mapping[str, Any] = {}
    viewer_api: str | None = None
    is_private: bool = False
    links: Mapping[str, Link] = {}


_COURSE_ERROR = CourseAnswer[dict[str, str]]
_VIEWER_ERROR = ViewerAnswer[dict[str, str]]

_COURSE, _BATCH, _QUIZ, _USER = (
    "do_1130928636168192001667",
    "0130929928739635200",
    "do_1128870328040161281204",
    "874ed8a5-782e-4f6c-8f36-e0288455901e",
)
_ATTEMPT = "3bb2c1d6f7d1f4c3a2e5b9c0d8e7f6a5"
_ASSESS_EVENT = {
    "eid": "ASSESS",
    "ets": 1715657550000,
    "edata": {
        "score": 7.5,
        "duration": 12.4,
        "resvalues": [{"1": '{"text":"Rose"}'}],
        "item": {"id": "do_112887q1", "maxscore": 10, "type": "mcq", "title": "Which of these is a flower?"},
    },
}


def _required(name: str, **others: Any) -> dict[str, Any]:
    """A JSON schema beside that of a type: what is optional there only because it has a default of its own."""
    return {"required": [name], "properties": {name: {"type": "string", "minLength": 1}}, **others}


_A_COURSE = {
    "anyOf": [
        _required("courseId"),
        _required("collectionId"),
        {
            "required": ["courseIds"],
            "properties": {"courseIds": {"type": "array", "minItems": 1, "prefixItems": [{"minLength": 1}]}},
        },
    ]
}
_A_COLLECTION = {
    "anyOf": [
        _required("collectionId"),
        _required("courseId"),
        {"required": ["contentId"], "properties": {"contentId": {"type": "string", "minLength": 1}}},
    ]
}
_NOT_BLANK = {"type": "string", "pattern": r"\S"}

_BAD_BODY = {"The body is no valid JSON": invalid_request()}
_ANY_OPERATION = {
    "The body is too large": too_large(800_000),
    "Too many requests are under way: try again after the seconds in Retry-After": busy(),
}
_COURSE_SERVICE = {
    **_ANY_OPERATION,
    "The body is empty, or a server could not be reached in time": internal_error(),
}
_VIEWER_SERVICE = {
    **_ANY_OPERATION,
    "The token is missing or not valid": invalid_fields({"request.userId": USER_ERROR}),
    "A server could not be reached in time": internal_error(),
}
_TOKEN = {"The token is missing or not valid": unauthorized()}
_CONTENT_STATE_ERRORS = {
    **_COURSE_SERVICE,
    **_BAD_BODY,
    "A field has another type": wrong_type("contentIds", "List"),
    "A field is missing; they are checked in the order userId, courseId, batchId": missing("batchId"),
}
_CONTENT_STATES = {
    "contentList": [
        {
            "contentId": _QUIZ,
            "courseId": _COURSE,
            "collectionId": _COURSE,
            "batchId": _BATCH,
            "status": 2,
            "progress": 100,
            "viewCount": 3,
            "completedCount": 1,
            "completionPercentage": 100.0,
            "progressdetails": {"mimetype": "application/vnd.ekstep.ecml-archive", "current": ["7"]},
            "lastAccessTime": "2024-05-14 09:12:44:310+0530",
            "lastCompletedTime": "2024-05-14 09:12:40:002+0530",
            "score": [
                {
                    "attemptId": _ATTEMPT,
                    "lastAttemptedOn": 1715657560002,
                    "totalScore": 7.5,
                    "totalMaxScore": 10.0,
                }
            ],
            "bestScore": {"totalScore": 7.5, "totalMaxScore": 10.0},
            "attemptsCount": 1.0,
        }
    ]
}
_CONTENT_STATE_REQUEST = {
    "courseId": _COURSE,
    "batchId": _BATCH,
    "contentIds": [_QUIZ],
    "fields": ["progress", "score"],
}
_ASSESSMENT_ERRORS = {
    **_VIEWER_SERVICE,
    **_BAD_BODY,
    "There are no assessments": invalid_fields({"request.assessments": EMPTY}),
    "The request has neither shape, or too many assessments": invalid_fields({"request.assessments": INVALID}),
    "ASSESS events without the content that they belong to": invalid_fields({"request.contentId": EMPTY}),
}
_ASSESSMENT_EXAMPLES = {
    "Several attempts": {
        "assessments": [
            {
                "assessmentTs": 1715657560002,
                "collectionId": _COURSE,
                "contextId": _BATCH,
                "contentId": _QUIZ,
                "attemptId": _ATTEMPT,
                "events": [_ASSESS_EVENT],
            }
        ]
    },
    "One attempt": {
        "collectionId": _COURSE,
        "contextId": _BATCH,
        "contentId": _QUIZ,
        "attemptId": _ATTEMPT,
        "assessments": [_ASSESS_EVENT],
    },
}
_ASSESSMENT_REQUESTS = (RequestBody[AssessmentsRequest], RequestBody[FlatAssessmentRequest])

OPERATIONS = (
    Operation(
        "content_state",
        ("/v1/content/state/read",),
        "The progress of the token's user in the contents of a batch, with scores on demand",
        (RequestBody[ContentStateRequest],),
        CourseAnswer[ContentStates],
        _COURSE_ERROR,
        {**_CONTENT_STATE_ERRORS, **_TOKEN},
        {"With scores": _CONTENT_STATE_REQUEST},
        _CONTENT_STATES,
        request_schema=_required("batchId", **_A_COURSE),
    ),
    Operation(
        "private_content_state",
        ("/private/v1/content/state/read",),
        "The same for the user in the body. Only for callers inside the cluster",
        (RequestBody[ContentStateRequest],),
        CourseAnswer[ContentStates],
        _COURSE_ERROR,
        _CONTENT_STATE_ERRORS,
        {"With scores": {"userId": _USER, **_CONTENT_STATE_REQUEST}},
        _CONTENT_STATES,
        request_schema={"allOf": [_required("userId"), _required("batchId")], **_A_COURSE},
        is_private=True,
    ),
    Operation(
        "group_activity",
        ("/v1/group/activity/agg",),
        "The aggregates of a group's members in a course or a unit. Only members may read it",
        (RequestBody[GroupActivityRequest],),
        CourseAnswer[GroupActivity],
        _COURSE_ERROR,
        {
            **_COURSE_SERVICE,
            **_TOKEN,
            "The body is no valid JSON, or the request is empty": invalid_request(),
            "A field has another type": wrong_type("groupId", "String"),
            "groupId is missing or blank": client_error("GROUP_ID_MISSING", "GroupId is mandatory."),
            "activityId is missing or blank": client_error("ACTIVITY_ID_MISSING", "ActivityId is mandatory."),
            "activityType is missing or blank": client_error("ACTIVITY_TYPE_MISSING", "ActivityType is mandatory."),
            "The caller is no member of the group": forbidden("Only members of the group can read it."),
            "The group service does not know the group, or fails": server_error(
                None, "Error while fetching group members record."
            ),
            "The aggregates could not be read": server_error(
                "ERR_CALLING_GROUOP_API", "Error while calling group api."
            ),
        },
        {"A course": {"groupId": "8a1c", "activityId": _COURSE, "activityType": "Course"}},
        {
            "groupId": "8a1c",
            "activity": {
                "id": _COURSE,
                "type": "Course",
                "agg": [{"metric": "enrolmentCount", "lastUpdatedOn": 1715657560002, "value": 1}],
            },
            "members": [
                {
                    "userId": _USER,
                    "agg": [
                        {"metric": "completedCount", "lastUpdatedOn": 1715657560002, "value": 4.0},
                        {"metric": f"score:{_QUIZ}", "lastUpdatedOn": 1715657560002, "value": 7.5},
                        {"metric": f"max_score:{_QUIZ}", "lastUpdatedOn": None, "value": 10.0},
                    ],
                    "name": "Asha",
                    "role": "admin",
                    "status": "active",
                    "createdBy": _USER,
                }
            ],
        },
        request_schema={
            "required": ["groupId", "activityId", "activityType"],
            "properties": dict.fromkeys(("groupId", "activityId", "activityType"), _NOT_BLANK),
        },
    ),
    Operation(
        "submit",
        ("/v1/assess/submit", "/v1/assessment/submit"),
        "Sends attempts of the token's user to the assessment aggregator",
        _ASSESSMENT_REQUESTS,
        ViewerAnswer[Results],
        _VIEWER_ERROR,
        _ASSESSMENT_ERRORS,
        _ASSESSMENT_EXAMPLES,
        {_QUIZ: ["Score Captured Successfully"]},
        viewer_api="api.view.assess.submit",
        links={
            "bestScores": Link(
                "read",
                {
                    "request": {
                        "collectionId": "$request.body#/request/assessments/0/collectionId",
                        "contextId": "$request.body#/request/assessments/0/contextId",
                    }
                },
            )
        },
    ),
    Operation(
        "save",
        ("/v1/assess/save",),
        "Stores the answers of attempts that are not submitted yet, without a score",
        _ASSESSMENT_REQUESTS,
        ViewerAnswer[Results],
        _VIEWER_ERROR,
        _ASSESSMENT_ERRORS,
        _ASSESSMENT_EXAMPLES,
        {_QUIZ: ["Saved Assessment Successfully"]},
        viewer_api="api.view.assess.save",
        links={"submitSaved": Link("submit", "$request.body")},
    ),
    Operation(
        "read",
        ("/v1/assess/read", "/v1/assessment/read"),
        "The best scores of the token's user in a batch",
        (RequestBody[ReadRequest],),
        ViewerAnswer[Scores],
        _VIEWER_ERROR,
        {
            **_VIEWER_SERVICE,
            **_BAD_BODY,
            "There is no collection": invalid_fields({"request.collectionId": EMPTY}),
            "A field has another type": invalid_fields({"request.contentId": INVALID}),
        },
        {"All contents": {"collectionId": _COURSE, "contextId": _BATCH}},
        {
            "userId": _USER,
            "collectionId": _COURSE,
            "contextId": _BATCH,
            "contents": [{"identifier": _QUIZ, "score": 7.5, "max_score": 10.0, "attempts_count": 2.0}],
        },
        viewer_api="api.view.assess.read",
        request_schema=_A_COLLECTION,
        links={
            "attempts": Link(
                "content_state",
                {
                    "request": {
                        "courseId": "$response.body#/result/collectionId",
                        "batchId": "$response.body#/result/contextId",
                        "fields": ["score"],
                    }
                },
            )
        },
    ),
)
