"""What a preflight makes of the answers of the servers."""

from collections.abc import Mapping

import pytest

from common.config.loader import load
from common.domain import questions, topics
from common.servers.http_answers import Answer
from desk.config import DeskConfig
from desk.doctor import preflight, preflight_reads
from desk.doctor.preflight import COLUMNS, KEYS, Level, Result, Table
from desk.doctor.preflight_reads import variables_of_the_desk
from jobs import JOBS, config_class
from tests.support.required_keys import REQUIRED

NAMES = {name: f"prod.{name}" for name in topics.ALL}
MEGABYTE = 1_048_588


def levels(results: list[Result]) -> set[Level]:
    return {result.level for result in results}


def problems(results: list[Result]) -> list[str]:
    return [str(result) for result in results if result.level is not Level.OK]


def tables(**changes: Table | None) -> dict[str, Table]:
    found = {
        name: Table([*columns, *key[0], *key[1]], key)
        for name, columns in COLUMNS.items()
        for key in list(KEYS[name])[:1]
    }
    return {name: table for name, table in {**found, **changes}.items() if table is not None}


class TestQuestionType:
    FIELDS: Mapping[str, str] = {**questions.COLUMN.fields, "params": "list<frozen<map<text, text>>>"}

    def test_the_fields_of_the_schema_and_more_behind_them_are_fine(self) -> None:
        assert preflight.question_type(self.FIELDS).level is Level.OK
        assert preflight.question_type({**self.FIELDS, "more": "int"}).level is Level.OK

    def test_another_type_another_order_and_no_type_are_not(self) -> None:
        result = preflight.question_type({**self.FIELDS, "score": "int"})
        assert (result.level, "score int" in str(result)) == (Level.FAIL, True)
        assert preflight.question_type(dict(reversed(list(self.FIELDS.items())))).level is Level.FAIL
        assert "does not exist: run python -m schema apply" in str(preflight.question_type({}))


class TestCassandra:
    @pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in KEYS.items() for key in keys])
    def test_each_known_key_is_fine(self, name: str, key: tuple[tuple[str, ...], tuple[str, ...]]) -> None:
        found = tables(**{name: Table([*COLUMNS[name], *key[0], *key[1]], key)})
        results = list(preflight.cassandra("k", found, "4.1"))
        if key == (("activity_type", "activity_id"), ("context_id", "user_id")):
            (problem,) = problems(results)
            assert problem.startswith("WARN  Cassandra: table user_activity_agg, key ((activity_type, activity_id), ")
            assert "the services do not start" in problem
        else:
            assert levels(results) == {Level.OK}

    def test_a_table_is_missing(self) -> None:
        (problem,) = problems(list(preflight.cassandra("k", tables(course_batch=None), "4.1")))
        assert problem == "FAIL  Cassandra: table course_batch does not exist: run python -m schema apply"

    def test_the_column_aggregates_is_missing(self) -> None:
        (key,) = list(KEYS["user_activity_agg"])[:1]
        found = tables(user_activity_agg=Table(["agg", "agg_last_updated", "agg_details"], key))
        (problem,) = problems(list(preflight.cassandra("k", found, "4.1")))
        assert "no column aggregates: run python -m schema apply" in problem

    def test_another_column_is_missing(self) -> None:
        (key,) = KEYS["user_enrolments"]
        found = tables(user_enrolments=Table(set(COLUMNS["user_enrolments"]) - {"status"}, key))
        assert problems(list(preflight.cassandra("k", found, "4.1"))) == [
            "FAIL  Cassandra: table user_enrolments lacks status"
        ]

    def test_an_unknown_key(self) -> None:
        found = tables(user_enrolments=Table(COLUMNS["user_enrolments"], (("courseid",), ("userid",))))
        (problem,) = problems(list(preflight.cassandra("k", found, "4.1")))
        assert "unknown primary key: ((courseid), userid)" in problem

    def test_sunbird_spark_is_named(self) -> None:
        found = tables(
            user_enrolments=Table(COLUMNS["user_enrolments"], (("userid",), ("collectionid", "contextid"))),
            hierarchy_relations=Table([], (("id",), ())),
        )
        results = problems(list(preflight.cassandra("k", found, "4.1")))
        assert len(results) == 2
        assert all("Sunbird Spark, which is not supported" in problem for problem in results)

    def test_no_keyspace(self) -> None:
        assert problems(list(preflight.cassandra("k", {}, "4.1"))) == [
            "FAIL  Cassandra: keyspace k does not exist or is empty"
        ]

    @pytest.mark.parametrize(
        ("differences", "level"),
        [([0, 900], Level.OK), ([0, -1_001], Level.WARN), ([10_001], Level.FAIL)],
    )
    def test_clocks(self, differences: list[int], level: Level) -> None:
        result = preflight.clocks({f"10.0.0.{number}:9042": ms for number, ms in enumerate(differences)})
        assert result.level is level


@pytest.mark.parametrize(
    ("courses", "without", "level"),
    [(0, [], Level.WARN), (3, [], Level.OK), (3, ["do_1"], Level.WARN), (1, ["do_1"], Level.FAIL)],
)
def test_redis(courses: int, without: list[str], level: Level) -> None:
    assert preflight.redis(courses, without).level is level


def test_flink() -> None:
    good = {"execution.checkpointing.dir": "s3://b/c"}
    assert levels(list(preflight.flink(good, "2.3.1", len(JOBS), "2.3.0"))) == {Level.OK}
    assert problems(list(preflight.flink({}, "2.2.0", 2, "2.3.0"))) == [
        "FAIL  Flink: version 2.2.0: the jobs are built for 2.3",
        f"WARN  Flink: 2 free slots: {len(JOBS)} jobs need at least one each",
        "FAIL  Flink: execution.checkpointing.dir is not set: after a restart a job would not know where it was",
    ]


def test_a_preflight_takes_the_variables_of_the_jobs_and_no_misspelt_ones() -> None:
    """A job's ``kafka.group_id`` is not passed over in silence: the desk has a key for each job's group."""
    of_jobs = set().union(*(REQUIRED[config_class(job)] for job in JOBS))
    others = {"PATH": "/bin", "AGGREGATES__CERT_DOMAIN": "misspelt", "AGGREGATES__KAFKA__GROUP_ID": "mine"}
    given = {**dict.fromkeys(of_jobs, "a"), **REQUIRED[DeskConfig], **others}
    left = variables_of_the_desk(given)
    assert "AGGREGATES__CERT_DOMAIN_URL" in given
    assert left == REQUIRED[DeskConfig] | others


NOT_FOUND = Answer(404, {"responseCode": "RESOURCE_NOT_FOUND", "params": {}})
FOUND_NOTHING = Answer(200, {"responseCode": "OK", "params": {}, "result": {"count": 0}})


async def apis(monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, Answer]) -> list[Result]:
    """What the preflight says of APIs that answer so, by their name."""

    class FakeApi:
        def __init__(self, name: str, *_: object) -> None:
            self._answer = answers[name]

        async def get(self, *_: object) -> Answer:
            return self._answer

        async def post(self, *_: object) -> Answer:
            return self._answer

        async def close(self) -> None:
            pass

    monkeypatch.setattr(preflight_reads, "ApiClient", FakeApi)
    return await preflight_reads._apis(load(DeskConfig, environ=REQUIRED[DeskConfig]))


WORKING = {"user_read": NOT_FOUND, "content_read": NOT_FOUND, "search": FOUND_NOTHING}


async def test_apis_that_have_looked_for_what_does_not_exist_work(monkeypatch: pytest.MonkeyPatch) -> None:
    results = await apis(monkeypatch, WORKING)
    assert (len(results), levels(results)) == (3, {Level.OK})


@pytest.mark.parametrize("name", WORKING)
@pytest.mark.parametrize(
    "answer",
    [
        Answer(401, {"responseCode": "CLIENT_ERROR", "params": {}}),
        Answer(403, {}),
        Answer(404, {"message": "no Route"}),
    ],
    ids=["unauthorized", "forbidden", "gateway"],
)
async def test_an_api_that_refuses_fails(name: str, answer: Answer, monkeypatch: pytest.MonkeyPatch) -> None:
    (problem,) = problems(await apis(monkeypatch, {**WORKING, name: answer}))
    assert problem.startswith(f"FAIL  APIs: the {name.replace('_', ' ')} API answered {answer.status}")
