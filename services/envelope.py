"""The envelopes of answers, and the errors of all routes. Pure.

The application serves the APIs of two services, each with its own envelope: the course service (content state, group
aggregates) and the viewer service (assessments). Clients match on codes and texts, so misspellings stay.
"""

import re
import uuid
from collections.abc import Mapping
from datetime import UTC, tzinfo
from typing import Annotated, Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec
from msgspec import Meta

from common.domain.events import MAX_TIME_MS, MIN_TIME_MS, to_datetime

Result = TypeVar("Result")
Request = TypeVar("Request", bound=msgspec.Struct)

USER_TOKEN = "x-authenticated-user-token"
MANAGED_USER_TOKEN = "x-authenticated-for"
"""The headers with the tokens of who asks and, where it is a managed user's data, of whom it is about."""

USER_ERROR = "Invalid User-authenticated-Token Header"
EMPTY = "Field cannot be empty"
INVALID = "Invalid Request"
"""Messages by field of the viewer service."""

_RESPONSE_CODES = {401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "RESOURCE_NOT_FOUND"}


class MessageIds(NamedTuple):
    """The ids of a request: the one that its client ``sent`` in ``X-msgId``, if any, and the one we gave it."""

    sent: str | None
    own: str

    @property
    def logged(self) -> str:
        """The one that both sides can look for."""
        return self.sent or self.own


def message_ids(sent: str | None) -> MessageIds:
    """Ids for a new request; ``sent`` is its header ``X-msgId``."""
    return MessageIds(sent or None, str(uuid.uuid4()))


class Params(msgspec.Struct):
    """``params`` of the course service."""

    resmsgid: str | None
    msgid: Annotated[str | None, Meta(description="the header X-msgId of the request")]
    err: str | None
    status: str
    errmsg: str | None


class ViewerParams(Params):
    """``params`` of the viewer service."""

    client_key: str | None = None


class CourseAnswer(msgspec.Struct, Generic[Result], rename="camel"):
    """An answer of the course service."""

    id: str
    ver: str
    ts: Annotated[str, Meta(examples=["2024-05-14 09:12:44:310+0530"])]
    params: Params
    response_code: str
    result: Result


class ViewerAnswer(msgspec.Struct, Generic[Result], rename="camel"):
    """An answer of the viewer service."""

    id: str
    ver: str
    ts: Annotated[str, Meta(examples=["2024-05-14T03:42:44.310Z"])]
    params: ViewerParams
    response_code: str
    result: Result


class ApiError(Exception):
    """An answer with another status than 200. ``code`` None is a server error without a code."""

    def __init__(
        self,
        http_status: int,
        code: str | None,
        message: str,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``fields`` are messages by field, of the viewer service only. ``headers`` go into the answer."""
        super().__init__(message)
        self.http_status = http_status
        self.code = code
        self.message = message
        self.fields = fields or {}
        self.headers = headers or {}

    @property
    def response_code(self) -> str:
        """``responseCode`` of the envelope."""
        return _RESPONSE_CODES.get(self.http_status, "CLIENT_ERROR" if self.http_status < 500 else "SERVER_ERROR")


def client_error(code: str, message: str) -> ApiError:
    """HTTP 400 with a code."""
    return ApiError(400, code, message)


def unauthorized() -> ApiError:
    """HTTP 401: no token, or an invalid one."""
    return ApiError(401, "UNAUTHORIZED_USER", "You are not authorized.")


def forbidden(message: str) -> ApiError:
    """HTTP 403: the token holds, but not for this. Clients take a 401 for the end of the session and log out."""
    return ApiError(403, "FORBIDDEN", message)


def busy() -> ApiError:
    """HTTP 503: the process has as many requests as it can answer in time."""
    message = "Too many requests are under way, please try again later."
    return ApiError(503, None, message, headers={"Retry-After": "1"})


def too_large(limit_in_bytes: int) -> ApiError:
    """HTTP 413."""
    return ApiError(413, "REQUEST_ENTITY_TOO_LARGE", f"The body must not be larger than {limit_in_bytes} bytes.")


def not_found() -> ApiError:
    """HTTP 404."""
    return ApiError(404, "RESOURCE_NOT_FOUND", "Not Found")


def method_not_allowed() -> ApiError:
    """HTTP 405: every operation is a POST."""
    return ApiError(405, "METHOD_NOT_ALLOWED", "Method Not Allowed", headers={"Allow": "POST"})


def invalid_request() -> ApiError:
    """HTTP 400: the body is no valid JSON, or the request in it is empty where it must not be."""
    return client_error("INVALID_REQUESTED_DATA", "Requested data for this operation is not valid.")


def wrong_type(field: str, expected: str) -> ApiError:
    """HTTP 400. ``expected`` is ``List`` or ``String``."""
    return client_error("DATA_TYPE_ERROR", f"Data type of {field} should be {expected}.")


def missing(field: str) -> ApiError:
    """HTTP 400 for a required field."""
    return client_error("MANDATORY_PARAMETER_MISSING", f"Mandatory parameter {field} is missing.")


def invalid_fields(fields: Mapping[str, str]) -> ApiError:
    """HTTP 400 of the viewer service, with a message for each invalid field."""
    return ApiError(400, "CLIENT_ERROR", "", fields)


def server_error(code: str | None, message: str) -> ApiError:
    """HTTP 500."""
    return ApiError(500, code, message)


def internal_error() -> ApiError:
    """HTTP 500: any other exception."""
    return server_error("INTERNAL_ERROR", "Process failed,please try again later.")


class Envelope(Protocol):
    """How a service wraps its answers."""

    def success(self, path: str, ids: MessageIds, now_ms: int, result: Any) -> tuple[bytes, dict[str, str]]:
        """Body and headers of an answer with status 200."""

    def failure(self, path: str, ids: MessageIds, now_ms: int, error: ApiError) -> bytes:
        """Body of an answer with another status."""


class CourseEnvelope:
    """The envelope of the course service."""

    def __init__(self, time_zone: tzinfo) -> None:
        """``time_zone`` is that of ``ts``."""
        self._time_zone = time_zone

    def success(self, path: str, ids: MessageIds, now_ms: int, result: Any) -> tuple[bytes, dict[str, str]]:
        """See Envelope."""
        encoded = msgspec.json.encode(result)
        body = self._wrap(path, ids, now_ms, "OK", None, "success", None, msgspec.Raw(encoded))
        return body, {"x-response-length": str(len(encoded)), "Access-Control-Allow-Origin": "*"}

    def failure(self, path: str, ids: MessageIds, now_ms: int, error: ApiError) -> bytes:
        """See Envelope. ``status`` repeats the code; it is not the word failed."""
        code = error.response_code
        return self._wrap(path, ids, now_ms, code, error.code, error.code or code, error.message, {})

    def _wrap(
        self,
        path: str,
        ids: MessageIds,
        now_ms: int,
        response_code: str,
        err: str | None,
        status: str,
        message: str | None,
        result: Any,
    ) -> bytes:
        return msgspec.json.encode(
            CourseAnswer(
                id=course_api(path),
                ver="v1",
                ts=course_time(now_ms, self._time_zone) or "",
                params=Params(None, ids.logged, err, status, message),
                response_code=response_code,
                result=result,
            )
        )


class ViewerEnvelope:
    """The envelope of one API of the viewer service."""

    def __init__(self, api: str) -> None:
        """``api`` is the ``id`` of its answers, the same on all paths."""
        self._api = api

    def success(self, path: str, ids: MessageIds, now_ms: int, result: Any) -> tuple[bytes, dict[str, str]]:
        """See Envelope."""
        return self._wrap(ids, now_ms, "OK", None, "successful", None, result), {}

    def failure(self, path: str, ids: MessageIds, now_ms: int, error: ApiError) -> bytes:
        """See Envelope. The result holds the messages by field."""
        code = error.response_code
        return self._wrap(ids, now_ms, code, code, "failed", error.message or None, error.fields)

    def _wrap(
        self,
        ids: MessageIds,
        now_ms: int,
        response_code: str,
        err: str | None,
        status: str,
        message: str | None,
        result: Any,
    ) -> bytes:
        now = to_datetime(now_ms).astimezone(UTC)
        return msgspec.json.encode(
            ViewerAnswer(
                id=self._api,
                ver="1.0",
                ts=f"{now:%Y-%m-%dT%H:%M:%S}.{now_ms % 1000:03}Z",
                params=ViewerParams(ids.own, ids.sent, err, status, message),
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

    None for an unset time and for one outside the years 1 to 9999.
    """
    if time_ms is None or not MIN_TIME_MS <= time_ms <= MAX_TIME_MS:
        return None
    # Twice as fast as strftime. Old offsets have seconds (India's until 1906), which the course service leaves out.
    text = to_datetime(time_ms).astimezone(time_zone).isoformat(" ", "milliseconds")
    return f"{text[:19]}:{text[20:26]}{text[27:29]}"


class _Body(msgspec.Struct):
    request: msgspec.Raw = msgspec.Raw(b"null")


_BODY = msgspec.json.Decoder(_Body | None)
_MAP = msgspec.json.Decoder(dict[str, Any] | None)


def decode_body(body: bytes) -> bytes | None:
    """The JSON of the member ``request``, ``null`` if that is missing; None for an empty body and the body ``null``.

    Raises ApiError 400.
    """
    if not body.strip():
        return None
    try:
        body.decode()
        decoded = _BODY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise invalid_request() from None
    return None if decoded is None else bytes(decoded.request)


def course_request(body: bytes) -> dict[str, Any]:
    """The members of ``request``, none if it is missing or null.

    Raises ApiError: 400 for a body that is no valid JSON, 500 for an empty one.
    """
    request = decode_body(body)
    if request is None:
        raise internal_error()
    try:
        return _MAP.decode(request) or {}
    except (msgspec.DecodeError, RecursionError):
        raise invalid_request() from None


def convert(request: Mapping[str, Any], request_type: type[Request]) -> Request:
    """The request as a struct. Raises ApiError 400 for the first field of a wrong type, in the order of the struct."""
    names = request_type.__struct_encode_fields__
    try:
        return msgspec.convert({name: request[name] for name in names if name in request}, request_type)
    except msgspec.ValidationError as error:
        problem, _, path = str(error).partition(" - at ")
        field, *inside = re.findall(r"\w+|\[", path)
        raise wrong_type(field, "List" if inside or "array" in problem else "String") from None
