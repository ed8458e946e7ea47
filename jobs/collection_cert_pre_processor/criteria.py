"""The criteria of a certificate template: their JSON text, and whether a score or a user meets them. Pure."""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from common.domain.events import BadEvent, shown, to_number

Value = TypeVar("Value")

COMPLETED = 2
"""The enrolment ``status`` that a template requires if its criteria do not name one."""

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "EQ": operator.eq,
    "eq": operator.eq,
    "=": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "ne": operator.ne,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True)
class Criteria:
    """What a template requires.

    ``enrolment_status`` is None without enrolment criteria. ``score`` has pairs of operator and percent, ``user`` pairs
    of field and canonical JSON. All of them must hold; an empty tuple requires nothing.
    """

    enrolment_status: float | None
    score: tuple[tuple[str, float], ...]
    user: tuple[tuple[str, bytes], ...]

    def met_by_score(self, percent: float) -> bool:
        """Rule C4: whether the best score of the course, in percent, is enough."""
        return all(OPERATORS[name](percent, limit) for name, limit in self.score)

    def met_by_user(self, fields: Mapping[str, Any]) -> bool:
        """Rule C5: whether every criterion equals the user's field as a JSON value: 2 equals 2.0, 1 differs from true.

        A missing field is null.
        """
        return all(canonical(fields.get(field)) == demanded for field, demanded in self.user)


class _Criteria(msgspec.Struct):
    enrollment: dict[str, msgspec.Raw] | None = None
    assessment: dict[str, msgspec.Raw] | None = None
    user: dict[str, msgspec.Raw] | None = None
    users: dict[str, msgspec.Raw] | None = None


_NULL = msgspec.Raw(b"null")
_CRITERIA = msgspec.json.Decoder(_Criteria)
_STATUS = msgspec.json.Decoder(float | str | None)
_SCORE = msgspec.json.Decoder(float | str | dict[str, float | str] | None)


def parse(text: str) -> Criteria:
    """Rule C2: the criteria of a template from their JSON text. Raises BadEvent ``bad_template``.

    Null is the same as missing. An empty ``enrollment`` requires the default status; an empty ``assessment`` or
    ``user`` requires nothing. Criteria that require nothing at all are refused, because everybody would get a
    certificate. Several operators must all hold. ``user`` and ``users`` mean the same, and a template may have both.
    """
    found = read_json(_CRITERIA, text, "criteria")
    criteria = Criteria(
        enrolment_status=None if found.enrollment is None else _status(found.enrollment),
        score=_score(found.assessment) if found.assessment else (),
        user=tuple(
            (field, canonical(raw)) for users in (found.user, found.users) for field, raw in (users or {}).items()
        ),
    )
    if criteria == Criteria(None, (), ()):
        raise BadEvent("bad_template", "criteria hold no criterion in enrollment, assessment, user or users")
    return criteria


def _status(enrollment: Mapping[str, msgspec.Raw]) -> float:
    status = read_json(_STATUS, enrollment.get("status", _NULL), "criterion enrollment.status")
    return COMPLETED if status is None else _number(status, "enrollment.status")


def _score(assessment: Mapping[str, msgspec.Raw]) -> tuple[tuple[str, float], ...]:
    score = read_json(_SCORE, assessment.get("score", _NULL), "criterion assessment.score")
    if score is None or score == {}:
        raise BadEvent("bad_template", "criterion assessment.score is missing")
    limits = score if isinstance(score, dict) else {"=": score}
    for name in limits:
        if name not in OPERATORS:
            raise BadEvent("bad_template", f"criterion assessment.score has the unknown operator {shown(name)}")
    return tuple((name, _number(limit, "assessment.score")) for name, limit in limits.items())


def _number(value: float | str, criterion: str) -> float:
    number = to_number(value)
    if number is None:
        raise BadEvent("bad_template", f"criterion {criterion} is not a number: {shown(value)}")
    return number


def read_json(decoder: msgspec.json.Decoder[Value], text: str | msgspec.Raw, what: str) -> Value:
    """Decodes JSON text of a template. Raises BadEvent ``bad_template``, naming ``what``, for anything unexpected."""
    try:
        return decoder.decode(text)
    except (RecursionError, msgspec.DecodeError) as error:
        raise BadEvent("bad_template", f"{what} cannot be read: {error}") from error


def canonical(value: Any) -> bytes:
    """A JSON value, decoded or not (``msgspec.Raw``), in a form that is equal for equal values.

    Raises BadEvent ``wrong_type`` for a ``msgspec.Raw`` that cannot be decoded, or has a number that no float can hold.
    """
    try:
        return msgspec.json.encode(_CANONICAL.decode(msgspec.json.encode(value)), order="deterministic")
    except (RecursionError, msgspec.DecodeError, OverflowError) as error:
        raise BadEvent("wrong_type", f"JSON value to be compared cannot be read: {error}") from error


def _whole_if_possible(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        # It would be encoded as null, and be equal to a field that is missing.
        raise OverflowError(f"number out of range: {shown(text)}")
    return int(number) if number.is_integer() else number


_CANONICAL: msgspec.json.Decoder[Any] = msgspec.json.Decoder(float_hook=_whole_if_possible)
