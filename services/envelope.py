"""What every answer is wrapped in, and the errors of all routes. Pure.

Two services share the application, and their clients know them apart by the envelope: the course service (content
state, group aggregates) and the viewer service (assessments). Codes and texts are matched on by clients, misspellings
included.
"""

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from common.domain.events import MAX_TIME_MS, to_datetime

Result = TypeVar("Result")
Request = TypeVar("Request", bound=msgspec.Struct)

USER_TOKEN = "x-authenticated-user-token"
MANAGED_USER_TOKEN = "x-authenticated-for"
"""The headers with the tokens of who asks and, where it is a managed user's data, of whom it is about."""

_MIN_TIME_MS = -MAX_TIME_MS // 4
"""Safely within the years that a datetime can hold."""
_RESPONSE_CODES = {401: "UNAUTHORIZED", 404: "RESOURCE_NOT_FOUND"}


class Params(msgspec.Struct):
    """The second half of the head of a course service's answer."""

    resmsgid: str | None
    msgid: str | None
    err: str | None
    status: str
    errmsg: str | None


class ViewerParams(Params):
    """The same of the viewer service, which knows one more member."""

    client_key: str | None = None


class CourseAnswer(msgspec.Struct, Generic[Result], rename="camel"):
    """An answer of the course service; ``ts`` like ``2024-05-14 09:12:44:310+0530``."""

    id: str
    ver: str
    ts: str
    params: Params
    response_code: str
    result: Result


class ViewerAnswer(msgspec.Struct, Generic[Result], rename="camel"):
    """An answer of the viewer service; ``ts`` like ``2024-05-14T03:42:44.310Z``."""

    id: str
    ver: str
    ts: str
    params: ViewerParams
    response_code: str
    result: Result


class ApiError(Exception):
    """An answer other than 200. ``code`` None is the server error without a code."""

    def __init__(
        self, http_status: int, code: str | None, message: str, fields: Mapping[str, str] | None = None
    ) -> None:
        """``fields`` are messages by field, which only the viewer service answers with."""
        super().__init__(message)
        self.http_status = http_status
        self.code = code
        self.message = message
        self.fields = fields or {}

    @property
    def response_code(self) -> str:
        """``responseCode`` of the envelope."""
        return _RESPONSE_CODES.get(self.http_status, "CLIENT_ERROR" if self.http_status < 500 else "SERVER_ERROR")


def client_error(code: str, message: str) -> ApiError:
    """HTTP 400 with a code."""
    return ApiError(400, code, message)


def unauthorized() -> ApiError:
    """HTTP 401: no token, or one that does not hold."""
    return ApiError(401, "UNAUTHORIZED_USER", "You are not authorized.")


def invalid_request() -> ApiError:
    """HTTP 400: the body is no JSON that can be read, or the request in it is empty where it must not be."""
    return client_error("INVALID_REQUESTED_DATA", "Requested data for this operation is not valid.")


def wrong_type(field: str, expected: str) -> ApiError:
    """HTTP 400; ``expected`` is List or String."""
    return client_error("DATA_TYPE_ERROR", f"Data type of {field} should be {expected}.")


def missing(field: str) -> ApiError:
    """HTTP 400 for a field that must be there."""
    return client_error("MANDATORY_PARAMETER_MISSING", f"Mandatory parameter {field} is missing.")


def invalid_fields(fields: Mapping[str, str]) -> ApiError:
    """HTTP 400 of the viewer service, with a message for each field at fault."""
    return ApiError(400, "CLIENT_ERROR", "", fields)


def server_error(code: str | None, message: str) -> ApiError:
    """HTTP 500."""
    return ApiError(500, code, message)


def internal_error() -> ApiError:
    """HTTP 500: any other exception."""
    return server_error("INTERNAL_ERROR", "Process failed,please try again later.")


class Envelope(Protocol):
    """How one service wraps what it answers."""

    def success(self, path: str, message_id: str | None, now_ms: int, result: Any) -> tuple[bytes, dict[str, str]]:
        """Body and headers of an answer with status 200."""

    def failure(self, path: str, message_id: str | None, now_ms: int, error: ApiError) -> bytes:
        """Body of an answer with another status."""


class CourseEnvelope:
    """The course service's."""

    def __init__(self, time_zone: tzinfo) -> None:
        """``time_zone`` is that of ``ts``."""
        self._time_zone = time_zone

    def success(self, path: str, message_id: str | None, now_ms: int, result: Any) -> tuple[bytes, dict[str, str]]:
        """See Envelope."""
        encoded = msgspec.json.encode(result)
        body = self._wrap(path, message_id, now_ms, "OK", None, "success", None, msgspec.Raw(encoded))
        return body, {"x-response-length": str(len(encoded)), "Access-Control-Allow-Origin": "*"}

    def failure(self, path: str, message_id: str | None, now_ms: int, error: ApiError) -> bytes:
        """See Envelope. ``status`` repeats the code; it is not the word failed."""
        code = error.response_code
        return self._wrap(path, message_id, now_ms, code, error.code, error.code or code, error.message, {})

    def _wrap(
        self,
        path: str,
        message_id: str | None,
        now_ms: int,
        response_code: str,
        err: str | None,
        status: str,
        message: str | None,
        result: Any,
    ) -> bytes:
        return msgspec.json.encode(
            CourseAnswer[Any](
                id=course_api(path),
                ver="v1",
                ts=course_time(now_ms, self._time_zone) or "",
                params=Params(None, message_id or str(uuid.uuid4()), err, status, message),
                response_code=response_code,
                result=result,
            )
        )


class ViewerEnvelope:
    """The viewer service's, of one of its APIs."""

    def __init__(self, api: str) -> None:
        """``api`` is the ``id`` of its answers, on whichever path they were asked for."""
        self._api = api

    def success(self, path: str, message_id: str | None, now_ms: int, result: Any) -> tuple[bytes, dict[str, str]]:
        """See Envelope."""
        return self._wrap(message_id, now_ms, "OK", None, "successful", None, result), {}

    def failure(self, path: str, message_id: str | None, now_ms: int, error: ApiError) -> bytes:
        """See Envelope. The result holds the messages by field."""
        code = error.response_code
        return self._wrap(message_id, now_ms, code, code, "failed", error.message or None, error.fields)

    def _wrap(
        self,
        message_id: str | None,
        now_ms: int,
        response_code: str,
        err: str | None,
        status: str,
        message: str | None,
        result: Any,
    ) -> bytes:
        now = to_datetime(now_ms).astimezone(UTC)
        return msgspec.json.encode(
            ViewerAnswer[Any](
                id=self._api,
                ver="1.0",
                ts=f"{now:%Y-%m-%dT%H:%M:%S}.{now_ms % 1000:03}Z",
                params=ViewerParams(str(uuid.uuid4()), message_id, err, status, message),
                response_code=response_code,
                result=result,
            )
        )


def course_api(path: str) -> str:
    """The ``id`` of a path: ``api.content.state.read`` of ``/v1/content/state/read``, empty for a private one."""
    segments = path.strip("/").split("/")
    if segments[0] == "private":
        return ""
    return ".".join(["api", *(segment for segment in segments if segment.isalpha())])


def course_time(time_ms: int | None, time_zone: tzinfo) -> str | None:
    """A time as the course service writes it: ``yyyy-MM-dd HH:mm:ss:SSSZ``.

    None for an unset one, and for one beyond the years that a reader can hold.
    """
    if time_ms is None or not _MIN_TIME_MS <= time_ms <= MAX_TIME_MS:
        return None
    moment = to_datetime(time_ms).astimezone(time_zone)
    return f"{moment:%Y-%m-%d %H:%M:%S}:{time_ms % 1000:03}{moment:%z}"


class _Body(msgspec.Struct):
    request: msgspec.Raw = msgspec.Raw(b"null")


_BODY = msgspec.json.Decoder(_Body | None)
_MAP = msgspec.json.Decoder(dict[str, Any] | None)


def decode_body(body: bytes) -> bytes | None:
    """The JSON of ``request``, ``null`` if it is missing; None for no body and the body ``null``. Raises ApiError."""
    if not body.strip():
        return None
    try:
        body.decode()
        decoded = _BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise invalid_request() from None
    return None if decoded is None else bytes(decoded.request)


def course_request(body: bytes) -> dict[str, Any]:
    """The members of ``request``, none if it is missing or null. Raises ApiError; without a body, the internal one."""
    request = decode_body(body)
    if request is None:
        raise internal_error()
    try:
        return _MAP.decode(request) or {}
    except (msgspec.DecodeError, RecursionError):
        raise invalid_request() from None


def convert(request: Mapping[str, Any], request_type: type[Request]) -> Request:
    """The fields of a type, in the order in which it names them. Raises ApiError for the first of a wrong type."""
    names = request_type.__struct_encode_fields__
    try:
        return msgspec.convert({name: request[name] for name in names if name in request}, request_type)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at ")
        field, *inside = re.findall(r"\w+|\[", path)
        raise wrong_type(field, "List" if inside or "array" in problem else "String") from None
