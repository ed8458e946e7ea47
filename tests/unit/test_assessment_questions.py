"""The column ``question`` is what another driver, cassandra-driver, decodes by the schema's type."""

import re
from pathlib import Path
from typing import Any

from cassandra import cqltypes
from hypothesis import given
from hypothesis import strategies as st

from common.domain.questions import COLUMN, Question, encode
from tests.support.strategies import questions

SCHEMA = Path(__file__).parents[2] / "schema" / "sunbird_courses.cql"
PROTOCOL_VERSION = 5

TEXT_MAPS = cqltypes.ListType.apply_parameters(
    [cqltypes.MapType.apply_parameters([cqltypes.UTF8Type, cqltypes.UTF8Type])]
)
TYPES = {
    "text": cqltypes.UTF8Type,
    # On the wire a bigint of ms; the driver rounds what it makes of that to a float of seconds.
    "timestamp": cqltypes.LongType,
    "double": cqltypes.DoubleType,
    "decimal": cqltypes.DecimalType,
    "list<frozen<map<text, text>>>": TEXT_MAPS,
}


def declared_fields() -> dict[str, str]:
    """The fields of the type in the schema."""
    declaration = re.search(r"CREATE TYPE IF NOT EXISTS \S+\.question \((.*?)\);", SCHEMA.read_text(), re.DOTALL)
    assert declaration is not None
    return dict(line.strip(" ,").split(" ", 1) for line in declaration[1].strip().splitlines())


def question_list() -> Any:
    """The driver's ``list<frozen<question>>``, made from the schema."""
    names, types = zip(*declared_fields().items(), strict=True)
    question = cqltypes.UserType.make_udt_class("keyspace", "question", names, [TYPES[cql] for cql in types])
    return cqltypes.ListType.apply_parameters([question])


QUESTION_LIST = question_list()


def test_the_fields_are_those_of_the_schema() -> None:
    declared = {name: re.sub(r"frozen<(.+)>(?=>)", r"\1", cql) for name, cql in declared_fields().items()}
    assert list(COLUMN.fields.items()) == list(declared.items())


@given(st.lists(questions, max_size=3))
def test_questions_arrive_as_they_were(sent: list[Question]) -> None:
    received = QUESTION_LIST.deserialize(encode(sent)[4:], PROTOCOL_VERSION)

    assert len(received) == len(sent)
    for question, row in zip(sent, received, strict=True):
        item = question.item
        assert (row.id, row.type, row.title, row.description) == (item.id, item.type, item.title, item.description)
        assert (row.score, row.max_score, row.duration) == (question.score, item.max_score, question.duration)
        assert row.assess_ts == question.time_ms
        assert [dict(entries) for entries in row.resvalues] == list(question.resvalues.maps)
        assert [dict(entries) for entries in row.params] == list(item.params)
