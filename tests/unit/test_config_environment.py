"""The environment: every key has a variable, which overrides the files."""

from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import loader
from common.config.loader import ConfigError, load, variable
from common.config.model import JobConfig
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from tests.support.configuration import (
    JOBS,
    KEYS,
    SECRET,
    at,
    keys,
    load_with,
    name_of,
    problems,
    write,
)
from tests.support.required_keys import REQUIRED

# Values for keys that a rule of their own or of two keys together restricts, with what else has to be set then.
SPECIAL: dict[str, tuple[str, dict[str, str]]] = {
    "bootstrap_servers": ("a:1,b:2", {}),
    "contact_points": ("[10.0.0.1, cassandra-2]", {}),
    "security_protocol": ("SSL", {}),
    "certificate_file": ("/c.pem", {"key_file": "/k.pem"}),
    "key_file": ("/k.pem", {"certificate_file": "/c.pem"}),
    "enabled": ("true", {}),
    "username": ("jobs", {"password": SECRET}),
    "password": (SECRET, {"username": "jobs"}),
    "producer_properties": ("{linger.ms: 50}", {}),
    "consumer_properties": ("{max.poll.records: 50, check.crcs: false}", {}),
    "content_read_api": ("https://content/read/", {}),
    "supported_content_types": ("[SelfAssess, Exam set]", {}),
    "agg_details_time_zone": ("Asia/Kolkata", {}),
    "time_zone": ("Asia/Kolkata", {}),
}


@pytest.mark.parametrize(
    ("job", "location"), KEYS, ids=lambda value: name_of(value) if isinstance(value, tuple) else ""
)
def test_every_key_can_be_overridden(job: type[JobConfig], location: tuple[str, ...], tmp_path: Path) -> None:
    before = at(load(job, environ=REQUIRED[job]), location)
    key = keys(job)[location]
    choices = get_args(key.annotation)
    others: dict[str, str] = {}
    if location[-1] in SPECIAL:
        text, others = SPECIAL[location[-1]]
    elif location[-1].endswith("password_file"):
        (tmp_path / "secret").write_text(SECRET)
        text, others = str(tmp_path / "secret"), {"username": "jobs"}
    elif isinstance(before, bool):
        text = str(not before).lower()
    elif isinstance(before, int):
        text = str(before + 1)
    elif "url" in location[-1] or location[-1] == "search_api":
        text = "https://other:8443/path"
    elif before in choices:
        text = next(choice for choice in choices if choice != before)
    else:
        text = "other"
    environ = {
        variable((*location[:-1], other)): value
        for other, value in others.items()
        if (*location[:-1], other) in keys(job)
    }

    after = load(job, environ={**REQUIRED[job], **environ, variable(location): text})

    value = at(after, location)
    assert value != before
    if loader.is_secret(key):
        assert value.get_secret_value() == text
    elif isinstance(value, str):
        assert value == text


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("cassandra.contact_points", "[10.0.0.1, b]", ("10.0.0.1", "b")),
        (
            "kafka.consumer_properties",
            "{a.b: 50, c: true, d: 0.5, e: x}",
            {"a.b": "50", "c": "true", "d": "0.5", "e": "x"},
        ),
        ("kafka.env", "007", "007"),
        ("kafka.group_id", "no", "no"),
        ("redis.password", "[1, 2]", "[1, 2]"),
        ("redis.password", " with blanks ", " with blanks "),
        ("redis.relation_database", "0", 0),
        ("skip_missing_records", "true", True),
        ("content_read_api", "http://[::1]:9000/content/", "http://[::1]:9000/content/"),
    ],
)
def test_texts_stay_as_they_are_and_the_rest_is_yaml(key: str, text: str, value: Any) -> None:
    location = tuple(key.split("."))
    found = at(load_with({variable(location): text}), location)
    assert (found.get_secret_value() if key == "redis.password" else found) == value


@pytest.mark.parametrize("text", ["", "  "])
def test_a_blank_variable_unsets_what_may_be_unset(tmp_path: Path, text: str) -> None:
    file = write(tmp_path, {"kafka.group_id": "mine", "cassandra.local_datacenter": "dc1"})
    environ = {
        "AGGREGATES__KAFKA__GROUP_ID": text,
        "AGGREGATES__CASSANDRA__LOCAL_DATACENTER": text,
        "AGGREGATES__REDIS__PASSWORD": text,
    }

    config = load(AssessmentAggregatorConfig, file, environ)

    assert (config.kafka.group_id, config.cassandra.local_datacenter, config.redis.password) == (None, None, None)


def test_overrides_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, {"kafka.env": "file", "http.max_connections": 5})
    config = load(AssessmentAggregatorConfig, file, {"AGGREGATES__KAFKA__ENV": "variable", "KAFKA__ENV": "not ours"})
    assert (config.kafka.env, config.http.max_connections) == ("variable", 5)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("cassandra.port", "70000", "'70000': must be less than or equal to 65535"),
        ("cassandra.port", "0", "'0': must be greater than or equal to 1"),
        ("cassandra.port", "90x", "'90x': must be a valid integer"),
        ("cassandra.port", "9042.5", "'9042.5': must be a valid integer"),
        ("cassandra.port", " ", "' ': must be a valid integer"),
        ("cassandra.contact_points", "10.0.0.1", "'10.0.0.1': must be a list"),
        ("cassandra.contact_points", "[10.0.0.1, 5]", "5: must be a text"),
        ("cassandra.contact_points", "[a", "'[a': must be a list"),
        ("retry.patience_ms", "0", "'0': must be greater than 0"),
        ("retry.patience_ms", "-5", "'-5': must be greater than 0"),
        ("retry.max_pause_ms", "999", "'999': must be greater than or equal to 1000"),
        ("skip_missing_records", "3", "'3': must be a valid boolean"),
        ("kafka.env", " ", "' ': must match pattern '^[a-zA-Z0-9._-]{1,100}$'"),
        ("kafka.env", "dev/x", "'dev/x': must match pattern '^[a-zA-Z0-9._-]{1,100}$'"),
        ("kafka.bootstrap_servers", "", "'': must not be blank and must not hold white space"),
        ("redis.host", "a b", "'a b': must not be blank and must not hold white space"),
        ("agg_details_time_zone", "Mars", "'Mars': must be the name of a time zone like UTC or Asia/Kolkata"),
        ("agg_details_time_zone", "Asia", "'Asia': must be the name of a time zone like UTC or Asia/Kolkata"),
        ("agg_details_time_zone", "../UTC", "'../UTC': must be the name of a time zone like UTC or Asia/Kolkata"),
        (
            "content_read_api",
            "http://c/read",
            "'http://c/read': must end with a slash, because an id is appended to it",
        ),
    ],
)
def test_says_which_variable_is_wrong(key: str, text: str, message: str) -> None:
    name = variable(key.split("."))
    assert problems(environ={name: text}) == [f"environment: {name} = {message}"]


@pytest.mark.parametrize("text", ["a", "a:", "a:0", "a:70000", ":9092", "a:1,", "a:1,b", "a:\u0661", "a:-1"])
def test_servers_are_host_and_port(text: str) -> None:
    said = "must be host:port, several separated by commas, with ports from 1 to 65535"
    assert problems(environ={"AGGREGATES__KAFKA__BOOTSTRAP_SERVERS": text}) == [
        f"environment: AGGREGATES__KAFKA__BOOTSTRAP_SERVERS = {text!r}: {said}"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "ftp://a/",
        "//a/",
        "a/",
        "http:///",
        "http://a:x/",
        "http://a:99999/",
        "http://a:0/",
        "http://a/?q=/",
        "http://a/#/",
        "http://a b/",
        "http://[::1/",
        "http://learner..service:9000/",
        "http://.x/",
        "http://./",
        f"http://{'a' * 64}/",
        "http://a\\b/",
        "http://a\0b/",
        "http://a\u200bb../",
        "http://①%20/",
    ],
)
def test_urls_are_http(text: str) -> None:
    said = "must be a URL like https://host:port/path"
    assert problems(environ={"AGGREGATES__CONTENT_READ_API": text}) == [
        f"environment: AGGREGATES__CONTENT_READ_API = {text!r}: {said}"
    ]


@pytest.mark.parametrize(
    "text",
    [
        "http://[::1]:9000/",
        f"http://{'a' * 63}/",
        "http://learner.sunbird.svc.:9000/",
        "http://bücher/ü/",
        "http://a_b/",
    ],
)
def test_a_host_that_can_be_looked_up_is_accepted(text: str) -> None:
    environ = REQUIRED[AssessmentAggregatorConfig] | {"AGGREGATES__CONTENT_READ_API": text}
    assert load(AssessmentAggregatorConfig, environ=environ).content_read_api == text


def test_a_base_url_loses_its_last_slash() -> None:
    environ = {"AGGREGATES__LEARNER_BASE_URL": "https://learner/api/"}
    config = load(CollectionCertPreProcessorConfig, environ=REQUIRED[CollectionCertPreProcessorConfig] | environ)
    assert config.learner_base_url == "https://learner/api"


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("AGGREGATES__REDIS__PASSWRD", "AGGREGATES__REDIS__HOST, AGGREGATES__REDIS__PORT, "),
        ("AGGREGATES__REDIS__TLS__CA", "AGGREGATES__REDIS__TLS__CERTIFICATE_FILE, "),
        ("AGGREGATES__REDIS__HOST__X", "AGGREGATES__REDIS__HOST, "),
        ("AGGREGATES__REDIS", "AGGREGATES__KAFKA__…, AGGREGATES__CASSANDRA__…, "),
        ("AGGREGATES__", "AGGREGATES__KAFKA__…, "),
        ("AGGREGATES__redis__host", "AGGREGATES__REDIS__HOST, "),
    ],
)
def test_refuses_unknown_variables_without_their_values(name: str, allowed: str) -> None:
    (problem,) = problems(environ={name: SECRET})
    assert problem.startswith(f"environment: {name} is unknown; allowed: {allowed}")
    assert SECRET not in problem


@given(st.dictionaries(st.sampled_from([key for job, key in KEYS if job is JOBS[0]]), st.text(max_size=20), max_size=4))
@settings(max_examples=50)
def test_whatever_is_given_there_is_a_config_or_a_config_error(given_: dict[Any, str]) -> None:
    environ = {variable(location): text for location, text in given_.items()}
    try:
        config = load_with(environ)
    except ConfigError as error:
        assert error.problems
    else:
        assert load_with(environ) == config
