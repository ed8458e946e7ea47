"""Malformed and borderline events of ``telemetry.assess``, made from real ones with a fixed seed.

What most of them have to come to is known from how they were made. What has been spliced at random may still be an
event or not: for those the rules have to be asked.
"""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.assessment import Learner
from tests.support.strategies import T0, JsonObject, answer, item

APPLIED, REFUSED, UNKNOWN = "applied", "refused", "unknown"
NOT_JSON, NOT_AN_OBJECT = "not_json", "not_an_object"
MISSING, WRONG_TYPE, TOO_LARGE = "missing_field", "wrong_type", "too_large"

_PLACE = "<raw JSON goes here>"
_REMOVED = ""

_HUGE_NUMBER = "9" * 400
_DEEP = 5_000


@dataclass(frozen=True, slots=True)
class Sample:
    """A Kafka value, and what it has to come to: APPLIED, or the kind of BadEvent that it has to be refused with.

    REFUSED is any kind, where it depends on what the decoder comes to first.
    """

    value: bytes
    kind: str


_ANY_TYPE_BUT_TEXT = ("1", "1.5", "true", "[]", "{}", '["x"]', '{"id":"x"}')
_ANY_TYPE_BUT_LIST = ("1", '"x"', "false", "{}", '{"0":{}}')
_ANY_TYPE_BUT_OBJECT = ("1", '"x"', "true", "[]", "[{}]")

_REQUIRED_TEXT = {
    MISSING: (_REMOVED, "null", '""', '"  "', r'"\t\n"'),
    WRONG_TYPE: _ANY_TYPE_BUT_TEXT,
    APPLIED: (r'"\u0000"', '"null"', r'"\ud83d\ude00"', '"अध्याय"', '"do_1:score"', r'"a\"b\\c"', '"{}"'),
}
_OPTIONAL_TEXT = {
    WRONG_TYPE: _ANY_TYPE_BUT_TEXT,
    APPLIED: (_REMOVED, "null", '""', r'"\u0000"', r'"\ud83d\ude00"', '"<script>"'),
}
_TIME = {
    MISSING: (_REMOVED, "null"),
    WRONG_TYPE: (
        *("true", "[]", "{}", "-1", "1.5", "1e999", "-1e999", _HUGE_NUMBER, "253402300800000"),
        *("9223372036854775807", "18446744073709551616", "1e300", '"now"'),
    ),
    APPLIED: ("0", "-0.0", "1715677960002.0", "1.715677960002e12", "253402214399999", '"1715677960002"'),
}
_SCORE = {
    WRONG_TYPE: (
        *("true", "[]", "{}", '"many"', '""', '"NaN"', '"Infinity"', '"-Infinity"', '"1e999"', '"0x10"', '"1_0"'),
        *("1e999", _HUGE_NUMBER, f'"{_HUGE_NUMBER}"', '"1,5"', r'"\u0664"'),
    ),
    APPLIED: (
        *(
            _REMOVED,
            "null",
            "0",
            "-0.0",
            "0.1",
            "5e-324",
            "1e-400",
            "1e308",
            "-1e6",
            '"-1e6"',
            '"0.75"',
            '" 7 "',
            '"+.5"',
            '"1e-3"',
        ),
        *('"7."', "9007199254740993", "0.30000000000000004"),
    ),
}
_DURATION = {
    WRONG_TYPE: ("true", "[]", "{}", '"long"', '"NaN"', '"Infinity"', "1e999", "1e-999", "1" + "0" * 400, '""'),
    APPLIED: (_REMOVED, "null", "0", "-1.5", "12.40", "1e-18", "1e300", "0.1234567890123456789012345678901234567890"),
}
_MAPS = {
    APPLIED: (
        *(*_ANY_TYPE_BUT_LIST, "[1]", '["x"]', "[[]]", "[true]", '[[{"1":"a"},{"2":"b"}],null]'),
        *(_REMOVED, "null", "[]", "[null]", "[{}]", '[{"1":null}]', '[{"":""}]', '[{"1":{"a":[1,null]}}]'),
        *('[{"1":1e999}]', r'[{"1":"\u0000"}]', '[{"1":"a","1":"b"}]', f'[{{"1":{_HUGE_NUMBER}}}]'),
    ),
}

_FIELDS: dict[str, Mapping[str, tuple[str, ...]]] = {
    "userId": _REQUIRED_TEXT,
    "courseId": _REQUIRED_TEXT,
    "batchId": _REQUIRED_TEXT,
    "contentId": _REQUIRED_TEXT,
    "attemptId": _REQUIRED_TEXT,
    "assessmentTs": _TIME,
    "events": {
        MISSING: ("[{}]", '[{"ets":1}]', '[{"ets":1,"edata":{"item":{}}}]'),
        WRONG_TYPE: (*_ANY_TYPE_BUT_LIST, "[1]", '["x"]', "[[]]", "[null]", "[true]"),
        # Each makes it a recompute request.
        APPLIED: (_REMOVED, "null", "[]"),
    },
    "events.0.ets": _TIME,
    "events.0.edata": {MISSING: (_REMOVED, "null", "{}"), WRONG_TYPE: _ANY_TYPE_BUT_OBJECT},
    "events.0.edata.score": _SCORE,
    "events.0.edata.duration": _DURATION,
    "events.0.edata.resvalues": _MAPS,
    "events.0.edata.item": {MISSING: (_REMOVED, "null", "{}"), WRONG_TYPE: _ANY_TYPE_BUT_OBJECT},
    "events.0.edata.item.id": _REQUIRED_TEXT,
    "events.0.edata.item.maxscore": _SCORE,
    "events.0.edata.item.params": _MAPS,
    "events.0.edata.item.type": _OPTIONAL_TEXT,
    "events.0.edata.item.title": _OPTIONAL_TEXT,
    "events.0.edata.item.desc": _OPTIONAL_TEXT,
}
"""Of every field that the job reads: raw JSON by what an event with it in this place has to come to."""

_UNUSED_FIELDS = ("eid", "events.0.mid", "events.0.actor", "events.0.edata.index", "events.0.edata.item.mc", "unknown")
_ANY_JSON = (
    *("null", "true", "1", "1e999", _HUGE_NUMBER, '""', "[]", "{}", '[[[["deep"]]]]', r'"\ud83d\ude00"', '{"":{}}'),
    *('{"a":1,"a":2}', "-0", '"' + "long" * 5_000 + '"'),
)

_BROKEN_JSON = (
    *(b"NaN", b"Infinity", b"-Infinity", b"nul", b"True", b"01", b"1.", b".5", b"+1", b"0x10", b"1e", b"--1", b"'x'"),
    *(rb'"\ud800"', rb'"\udc00"', rb'"\ud800\ud800"', rb'"\u12"', rb'"\x41"', b'"\x01"', b'"\n"', b'"', b"[", b"{"),
    *(b"[1,]", b'{"a":1,}', b'{"a"}', b"{1:2}", b"undefined", b"/**/1", b'"a" "b"', b"", b"[" * _DEEP + b"]" * _DEEP),
    *(b'{"a":' * _DEEP + b"1" + b"}" * _DEEP, b'"\xff"', b'"\xc3"', b'"\xed\xa0\x80"', b'"\xf8\x88\x80\x80\x80"'),
    *(b'"\xc0\x80"', b"\x00"),
)
"""In the place of any value, used or not, they make the whole no JSON (the last ones: no UTF-8)."""

_NO_OBJECT = (b"null", b"true", b"0", b"-1.5", b'"{}"', b"[]", b'["userId"]', b"\t[{}]\n", b'""')

_NO_JSON = (
    *(b"", b" ", b"\n", b"\x00", b"{", b"}", b'"', b"{]", b"{}{}", b"{},", b"\xef\xbb\xbf{}", b"\xff\xfe{\x00}\x00"),
    *("{}".encode("utf-32"), b"<html></html>", b"userId=1", b"\x80\x04}q\x00.", b"\x1f\x8b\x08", b"// {}\n{}"),
    *(b"[" * 50_000, b'{"a":' * 50_000, b"[" * 50_000 + b"]" * 50_000),
)

_METADATA: tuple[object, ...] = (
    None,
    {},
    [],
    "text",
    7,
    {"source": "import"},
    {"src": "ours"},
    {"validation_error": "old", "original": {}},
)
"""Of a bad event: all of it has to be there again after the repair."""


class Samples:
    """Without end; the same for the same `seed`. All ids begin with `prefix`, as long as they are not spoilt."""

    def __init__(self, seed: int, prefix: str) -> None:
        self._random = random.Random(seed)
        self._prefix = prefix
        self._number = 0

    def __iter__(self) -> Iterator[Sample]:
        makers = {
            self._in_a_field: 30,
            self._spliced: 25,
            self._broken_in_a_field: 15,
            self._truncated: 10,
            self._in_an_unused_field: 6,
            self._duplicate_key: 5,
            self._no_object: 3,
            self._no_json: 3,
            self._in_other_bytes: 2,
            self._large: 1,
        }
        while True:
            for make in self._random.choices(list(makers), list(makers.values()), k=100):
                yield make()

    def good(self) -> Sample:
        """An event with nothing odd about it."""
        return Sample(json.dumps(self._event()).encode(), APPLIED)

    def _event(self) -> JsonObject:
        """A real one: of one of few learners, who has several attempts at several contents then."""
        self._number += 1
        chosen = self._random
        learner = Learner.unique(f"{self._prefix}-{chosen.randrange(500)}")
        event = learner.attempt(
            f"do_{chosen.randrange(4)}",
            f"{self._number:x}",
            (),
            T0 + self._number,
            events=[
                answer(
                    score=chosen.choice((0, 0.25, 1, 1.5, "0.75")),
                    item=item(id=f"q{number}", title=f"Question {number}"),
                )
                for number in range(chosen.choice((1, 1, 2, 5)))
            ],
        )
        if chosen.random() < 0.1:
            event["metadata"] = chosen.choice(_METADATA)
        return event

    def _with(self, path: str, raw: str) -> bytes:
        """An event with raw JSON in one place, or without it."""
        event = self._event()
        *parents, last = path.split(".")
        parent: Any = event
        for name in parents:
            parent = parent[int(name) if name.isdigit() else name]
        if raw == _REMOVED:
            parent.pop(last, None)
        else:
            parent[last] = _PLACE
        return json.dumps(event, ensure_ascii=self._random.random() < 0.5).replace(f'"{_PLACE}"', raw).encode()

    def _in_a_field(self) -> Sample:
        path = self._random.choice(list(_FIELDS))
        kind = self._random.choice(list(_FIELDS[path]))
        return Sample(self._with(path, self._random.choice(_FIELDS[path][kind])), kind)

    def _in_an_unused_field(self) -> Sample:
        return Sample(self._with(self._random.choice(_UNUSED_FIELDS), self._random.choice(_ANY_JSON)), APPLIED)

    def _broken_in_a_field(self) -> Sample:
        path = self._random.choice([*_FIELDS, *_UNUSED_FIELDS])
        marked = self._with(path, json.dumps(_PLACE))
        return Sample(marked.replace(json.dumps(_PLACE).encode(), self._random.choice(_BROKEN_JSON)), REFUSED)

    def _truncated(self) -> Sample:
        value = self.good().value
        return Sample(value[: self._random.randrange(len(value))], NOT_JSON)

    def _duplicate_key(self) -> Sample:
        """Of a key that is there twice the last counts, and both have to be of the right type."""
        value = self.good().value
        user_id = json.loads(value)["userId"]
        first, last, kind = self._random.choice(
            (
                ('"somebody else"', json.dumps(user_id), APPLIED),
                ("null", json.dumps(user_id), APPLIED),
                (json.dumps(user_id), '""', MISSING),
                (json.dumps(user_id), "1", WRONG_TYPE),
                ("1", json.dumps(user_id), WRONG_TYPE),
            )
        )
        return Sample(b'{"userId": %s, %s, "userId": %s}' % (first.encode(), value[1:-1], last.encode()), kind)

    def _no_object(self) -> Sample:
        return Sample(self._random.choice((*_NO_OBJECT, b"[" + self.good().value + b"]")), NOT_AN_OBJECT)

    def _no_json(self) -> Sample:
        value = self.good().value
        odd = (value + b"}", value + value, b"\xef\xbb\xbf" + value, value.decode().encode("utf-16"), value[1:])
        return Sample(self._random.choice((*_NO_JSON, *odd)), REFUSED)

    def _in_other_bytes(self) -> Sample:
        """The same JSON, written in another way."""
        event = self._event()
        text = self._random.choice(
            (
                json.dumps(event, indent=4),
                json.dumps(event, separators=(",", ":")),
                json.dumps(event).replace("userId", r"\u0075serId"),
                "\r\n\t " + json.dumps(event, separators=(" ,\n", "\t:\r")) + "\n\n",
                json.dumps(dict(reversed(event.items()))),
            )
        )
        return Sample(text.encode(), APPLIED)

    def _large(self) -> Sample:
        length, kind = self._random.choice(((70_000, TOO_LARGE), (40_000, APPLIED)))
        path = self._random.choice(("userId", "courseId", "batchId", "contentId", "attemptId"))
        letter = self._random.choice("xé") if length == 70_000 else "x"
        return Sample(self._with(path, json.dumps(letter * length)), kind)

    def _spliced(self) -> Sample:
        """Bytes cut out, doubled or replaced at random."""
        value = self.good().value
        for _ in range(self._random.randint(1, 3)):
            start = self._random.randrange(len(value))
            end = min(len(value), start + self._random.choice((0, 1, 1, 2, 8, 40)))
            middle = self._random.choice(
                (
                    b"",
                    b"",
                    value[start:end] * 2,
                    b"NaN",
                    b"null",
                    b"1e999",
                    b'"',
                    b"\xff",
                    b",",
                    b"}",
                    b"0",
                    b'":{"',
                    b" ",
                )
            )
            value = value[:start] + middle + value[end:]
        return Sample(value, UNKNOWN)
