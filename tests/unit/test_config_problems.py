"""What is wrong in a file: the problem names the key, where its value comes from, and what is allowed."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.config.loader import ConfigError, load
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from tests.support.configuration import (
    JOBS,
    KEYS,
    REPOSITORY,
    SECRET,
    name_of,
    problems,
    write,
)
from tests.support.required_keys import REQUIRED


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("cassandra.port", "9042", "'9042': must be a valid integer"),
        ("cassandra.port", True, "True: must be a valid integer"),
        ("cassandra.port", 9042.0, "9042.0: must be a valid integer"),
        ("cassandra.port", {"a": 1}, "a map: must be a valid integer"),
        ("kafka.env", 5, "5: must be a text"),
        ("kafka.env", None, "None: must be a text"),
        ("kafka.security_protocol", "TLS", "'TLS': must be 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT' or 'SASL_SSL'"),
        ("kafka.sasl_mechanism", "GSSAPI", "'GSSAPI': must be 'PLAIN', 'SCRAM-SHA-256' or 'SCRAM-SHA-512'"),
        ("cassandra.keyspace", "a-b", "'a-b': must match pattern '^[a-zA-Z][a-zA-Z0-9_]{0,47}$'"),
        (
            "cassandra.consistency",
            "ANY",
            "'ANY': must be 'ONE', 'TWO', 'THREE', 'QUORUM', 'ALL', 'LOCAL_QUORUM', 'EACH_QUORUM' or 'LOCAL_ONE'",
        ),
        ("cassandra.contact_points", "10.0.0.1", "'10.0.0.1': must be a list"),
        ("cassandra.contact_points", [], "a list: must have at least 1 item"),
        ("redis.relation_database", -1, "-1: must be greater than or equal to 0"),
        ("skip_missing_records", "yes", "'yes': must be a valid boolean"),
        ("content_read_api", "x" * 500, f"'{'x' * 99}…: must be a URL like https://host:port/path"),
        ("cassandra.local_datacenter", "", "'': must not be blank"),
    ],
)
def test_says_which_key_is_wrong(tmp_path: Path, key: str, value: Any, message: str) -> None:
    assert problems(write(tmp_path, {key: value})) == [f"{key} = {message}"]


def test_refuses_unknown_keys_without_their_values(tmp_path: Path) -> None:
    root, nested = problems(write(tmp_path, {"kafka.tls.verfy": SECRET, "kafcka": {"a": SECRET}}))
    assert nested == (
        "kafka.tls.verfy is unknown; allowed: kafka.tls.certificate_file, kafka.tls.key_file, kafka.tls.key_password, "
        "kafka.tls.key_password_file, kafka.tls.ca_file, kafka.tls.verify"
    )
    assert root.startswith("kafcka is unknown; allowed: kafka.…, cassandra.…, ")


def test_a_section_is_a_map(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(AssessmentAggregatorConfig, write(tmp_path, f"redis: {SECRET}\nkafka:\n"), REQUIRED[JOBS[0]])
    assert caught.value.problems == tuple(
        f"{tmp_path}/job.yaml: {section} = **********: must be a map of keys" for section in ("redis", "kafka")
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kafka: [", ", line 2: not valid YAML: did not find expected node content"),
        ("kafka:\n  a: 1\n  a: 2\n", ", line 3: not valid YAML: duplicate key a"),
        ("- 1\n", ": must be a map of keys"),
        ("", ": must be a map of keys"),
        ("a: \x07", ": not valid YAML: it contains characters that are not allowed"),
        ("? [a]\n: b\n", ", line 1: not valid YAML: found unhashable key"),
    ],
)
def test_says_what_is_no_yaml(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path, text)
    assert problems(file) == [f"{file}{said}".removeprefix(f"{file}: ")]


def test_says_what_cannot_be_read(tmp_path: Path) -> None:
    assert problems(tmp_path / "none.yaml") == ["cannot be read: No such file or directory"]
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    assert problems(tmp_path / "latin.yaml")[0].startswith("cannot be read: 'utf-8' codec can't decode byte 0xe9")


def test_says_everything_at_once(tmp_path: Path) -> None:
    file = write(tmp_path, {"cassandra.port": "x", "redis.password": SECRET, "unknown": 1})
    assert len(problems(file, {"AGGREGATES__HTTP__MAX_CONNECTIONS": "0", "AGGREGATES__X": "1"})) == 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"kafka.security_protocol": "SASL_SSL"},
            "kafka: security_protocol: SASL_SSL needs sasl_username and sasl_password "
            "(the variable AGGREGATES__KAFKA__SASL_PASSWORD or the key sasl_password_file) "
            "(security_protocol = 'SASL_SSL' from FILE; sasl_username is not set; sasl_password is not set)",
        ),
        (
            {"kafka.tls.key_file": "/k"},
            "kafka.tls: certificate_file and key_file must be set together "
            "(certificate_file is not set; key_file = '/k' from FILE)",
        ),
        (
            {"redis.tls.certificate_file": "/c"},
            "redis.tls: certificate_file and key_file must be set together "
            "(certificate_file = '/c' from FILE; key_file is not set)",
        ),
        (
            {"cassandra.username": "u"},
            "cassandra: username and password must be set together "
            "(the password as the variable AGGREGATES__CASSANDRA__PASSWORD or with the key password_file) "
            "(username = 'u' from FILE; password is not set)",
        ),
        (
            {"redis.username": "u"},
            "redis: username needs a password (the variable AGGREGATES__REDIS__PASSWORD or the key password_file) "
            "(username = 'u' from FILE; password is not set)",
        ),
        (
            {"batch.max_batch_size": 5000},
            "batch: max_batch_size must not be greater than max_buffered_requests "
            "(max_batch_size = 5000 from FILE; max_buffered_requests = 500 from jobs/config.yaml)",
        ),
        (
            {"retry.initial_backoff_ms": 10_001},
            "retry: initial_backoff_ms must not be greater than max_backoff_ms "
            "(initial_backoff_ms = 10001 from FILE; max_backoff_ms = 10000 from jobs/config.yaml)",
        ),
        (
            {"http.request_timeout_ms": 30_000},
            "http: request_timeout_ms must be less than call_timeout_ms "
            "(request_timeout_ms = 30000 from FILE; call_timeout_ms = 30000 from jobs/config.yaml)",
        ),
        (
            {"http.connect_timeout_ms": 5_000},
            "http: connect_timeout_ms must be less than request_timeout_ms "
            "(connect_timeout_ms = 5000 from FILE; request_timeout_ms = 5000 from jobs/config.yaml)",
        ),
        (
            {"retry.patience_ms": 30_000},
            "http.call_timeout_ms must be less than retry.patience_ms "
            "(http.call_timeout_ms = 30000 from jobs/config.yaml; retry.patience_ms = 30000 from FILE)",
        ),
        (
            {"cassandra.request_timeout_ms": 450_000},
            "cassandra.request_timeout_ms must be less than retry.patience_ms (cassandra.request_timeout_ms = "
            "450000 from FILE; retry.patience_ms = 450000 from jobs/config.yaml)",
        ),
        (
            {"redis.request_timeout_ms": 500_000},
            "redis.request_timeout_ms must be less than retry.patience_ms (redis.request_timeout_ms = "
            "500000 from FILE; retry.patience_ms = 450000 from jobs/config.yaml)",
        ),
        (
            {"retry.patience_ms": 220_000, "http.poison_after_ms": 90_000},
            "twice http.poison_after_ms, http.call_timeout_ms and retry.max_backoff_ms together must be less than "
            "retry.patience_ms (http.poison_after_ms = 90000 from FILE; http.call_timeout_ms = 30000 from "
            "jobs/config.yaml; retry.max_backoff_ms = 10000 from jobs/config.yaml; retry.patience_ms = 220000 from "
            "FILE)",
        ),
    ],
)
def test_says_which_keys_do_not_go_together_and_where_they_come_from(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    file = write(tmp_path, change)
    said = said.replace("FILE", str(file)).replace("jobs/config.yaml", str(REPOSITORY / "jobs" / "config.yaml"))
    assert problems(file) == [said]


def test_a_call_of_one_try_leaves_no_time_for_eight(tmp_path: Path) -> None:
    (problem,) = problems(write(tmp_path, {"http.request_timeout_ms": 60_000, "http.call_timeout_ms": 70_000}))
    assert "leave no time for eight tries within retry.patience_ms (http.request_timeout_ms = 60000" in problem


def test_a_patience_that_outlives_the_search_for_poison_is_enough(tmp_path: Path) -> None:
    file = write(tmp_path, {"retry.patience_ms": 200_001})
    assert load(AssessmentAggregatorConfig, file, REQUIRED[AssessmentAggregatorConfig]).retry.patience_ms == 200_001


def test_the_patience_of_the_certificate_job_is_enough_for_three_ids_at_fault() -> None:
    environ = REQUIRED[CollectionCertPreProcessorConfig] | {"AGGREGATES__RETRY__PATIENCE_MS": "300001"}
    assert load(CollectionCertPreProcessorConfig, environ=environ).retry.patience_ms == 300_001
    with pytest.raises(ConfigError) as caught:
        load(CollectionCertPreProcessorConfig, environ=environ | {"AGGREGATES__RETRY__PATIENCE_MS": "300000"})
    (problem,) = caught.value.problems
    assert (
        "twice http.poison_after_ms, http.call_timeout_ms and retry.max_backoff_ms together must be less than a third "
        "of retry.patience_ms, because a content, a course and a user may fail one after the other "
        "(http.poison_after_ms = 30000 from " in problem
    )


def test_says_which_variables_do_not_go_together_without_their_secrets() -> None:
    (problem,) = problems(environ={"AGGREGATES__CASSANDRA__PASSWORD": SECRET})
    assert problem.endswith(
        "(username is not set; password = ********** from environment: AGGREGATES__CASSANDRA__PASSWORD)"
    )


@pytest.mark.parametrize(
    "change", [{"cassandra.tls.enabled": True, "cassandra.tls.verify": "none"}, {"redis.tls.enabled": True}]
)
def test_tls_without_own_authorities(tmp_path: Path, change: dict[str, Any]) -> None:
    load(AssessmentAggregatorConfig, write(tmp_path, change), {})


@given(
    st.sampled_from([location for job, location in KEYS if job is JOBS[0]]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
        max_leaves=3,
    ),
)
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_whatever_a_key_holds_there_is_a_config_or_a_config_error(
    tmp_path: Path, location: tuple[str, ...], value: Any
) -> None:
    file = write(tmp_path, {name_of(location): value})
    try:
        assert load(AssessmentAggregatorConfig, file, {}) == load(AssessmentAggregatorConfig, file, {})
    except ConfigError as error:
        assert error.problems
