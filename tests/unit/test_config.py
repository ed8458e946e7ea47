"""The configuration: where values come from, what is refused and with which words, and that secrets stay secret."""

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, get_args

import cloudpickle
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticUndefined

import jobs
from common.config import loader as configuration
from common.config.loader import ConfigError, load, parse_arguments, print_config, variable
from common.config.model import JobConfig, Section
from common.domain import topics
from jobs import config_class
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from reports.config import ReportsConfig
from services.config import ServicesConfig

JOBS = [config_class(name) for name in jobs.JOBS]
REPOSITORY = Path(__file__).parents[2]
SECRET = "hunter2!"

SHARED = dict(configuration._keys(JobConfig))
KEYS = [
    *((JOBS[0], location) for location in SHARED),
    *((job, location) for job in JOBS for location, _ in configuration._keys(job) if location not in SHARED),
]
SECRETS = [location for location, key in SHARED.items() if configuration._is_secret(key)]
name_of = ".".join


def own_yaml(job: type[Section]) -> dict[str, Any]:
    path = REPOSITORY / Path(*job.__module__.split(".")).with_name("config.yaml")
    values: dict[str, Any] = yaml.safe_load(path.read_text())
    return values


def at(values: Any, location: tuple[str, ...]) -> Any:
    for part in location:
        values = values[part] if isinstance(values, dict) else getattr(values, part)
    return values


def write(folder: Path, change: dict[str, Any] | str) -> Path:
    """The assessment aggregator's YAML with some keys changed ("kafka.env": value), or another text."""
    values = own_yaml(AssessmentAggregatorConfig)
    if isinstance(change, dict):
        for key, value in change.items():
            *sections, last = key.split(".")
            at(values, tuple(sections))[last] = value
    file = folder / "job.yaml"
    file.write_text(change if isinstance(change, str) else yaml.safe_dump(values))
    return file


def problems(path: Path | None = None, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(AssessmentAggregatorConfig, path, environ or {})
    prefix = f"{path}: " if path else ""
    return [problem.removeprefix(prefix) for problem in caught.value.problems]


class TestPackagedFile:
    @pytest.mark.parametrize("job", JOBS)
    def test_starts_against_the_local_world(self, job: type[JobConfig]) -> None:
        config = load(job, environ={})

        assert config.kafka.bootstrap_servers == "127.0.0.1:19092"
        assert (config.cassandra.contact_points, config.cassandra.port) == (("127.0.0.1",), 19142)
        assert (config.redis.host, config.redis.port) == ("127.0.0.1", 16379)
        assert config.kafka.env == "dev"

    @pytest.mark.parametrize("job", JOBS)
    def test_has_every_key_but_secrets_in_the_order_of_the_code(self, job: type[JobConfig]) -> None:
        def keys_of(values: dict[str, Any], model: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
            found = []
            for key, value in values.items():
                section = configuration._section(model.model_fields.get(key))
                found += keys_of(value, section, (*above, key)) if section else [(*above, key)]
            return found

        allowed = {location for location, key in configuration._keys(job) if not configuration._is_secret(key)}
        assert sorted(keys_of(own_yaml(job), job)) == sorted(allowed)

    @pytest.mark.parametrize("job", [*JOBS, ServicesConfig, ReportsConfig])
    def test_says_the_values_that_missing_keys_have(self, job: type[Section]) -> None:
        values = own_yaml(job)

        def remove_defaults(model: Any, section: dict[str, Any]) -> None:
            for key, field in model.model_fields.items():
                inner = configuration._section(field)
                if inner and key in section:
                    remove_defaults(inner, section[key])
                elif field.default is not PydanticUndefined:
                    section.pop(key, None)

        remove_defaults(job, values)
        assert job.model_validate(values) == load(job, environ={})

    def test_is_found_inside_a_zip_archive(self, tmp_path: Path) -> None:
        archive = tmp_path / "jobs.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            for folder in ("common", "jobs"):
                for file in (REPOSITORY / folder).rglob("*"):
                    if file.suffix in (".py", ".yaml"):
                        packed.write(file, file.relative_to(REPOSITORY))
        program = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from common.config.loader import load\n"
            "from jobs.assessment_aggregator import config\n"
            "assert sys.argv[1] in config.__file__\n"
            "print(load(config.AssessmentAggregatorConfig, environ={}).kafka.env)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(archive)], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.stdout, done.stderr) == ("dev\n", "")


class TestNames:
    def test_group_is_that_of_the_environment(self) -> None:
        groups = [load(job, environ={"AGGREGATES__KAFKA__ENV": "prod"}).group_id for job in JOBS]
        assert groups == [
            "prod-assessment-aggregator-group",
            "prod-activity-aggregate-updater-group",
            "prod-collection-cert-pre-processor-group",
        ]

    def test_group_can_be_chosen(self) -> None:
        assert load(JOBS[0], environ={"AGGREGATES__KAFKA__GROUP_ID": "mine"}).group_id == "mine"

    @pytest.mark.parametrize("topic", topics.ALL)
    def test_topics_begin_with_the_environment_unless_they_have_names_of_their_own(self, topic: str) -> None:
        assert load(JOBS[0], environ={}).kafka.topic(topic) == f"dev.{topic}"
        environ = {f"AGGREGATES__KAFKA__TOPICS__{topics.key(topic).upper()}": "their-name"}
        kafka = load(JOBS[0], environ=environ).kafka
        assert [kafka.topic(other) for other in topics.ALL if kafka.topic(other) != f"dev.{other}"] == ["their-name"]


# Values for keys that a rule of their own or of two keys together restricts, with what else has to be set then.
SPECIAL: dict[str, tuple[str, dict[str, str]]] = {
    "bootstrap_servers": ("a:1,b:2", {}),
    "contact_points": ("[10.0.0.1, cassandra-2]", {}),
    "security_protocol": ("SSL", {}),
    "certificate_file": ("/c.pem", {"key_file": "/k.pem"}),
    "key_file": ("/k.pem", {"certificate_file": "/c.pem"}),
    "username": ("jobs", {"password": SECRET}),
    "password": (SECRET, {"username": "jobs"}),
    "producer_properties": ("{linger.ms: 50}", {}),
    "consumer_properties": ("{max.poll.records: 50, check.crcs: false}", {}),
    "content_read_api": ("https://content/read/", {}),
    "supported_content_types": ("[SelfAssess, Exam set]", {}),
    "agg_details_time_zone": ("Asia/Kolkata", {}),
    "time_zone": ("Asia/Kolkata", {}),
}


class TestEnvironment:
    @pytest.mark.parametrize(
        ("job", "location"), KEYS, ids=lambda value: name_of(value) if isinstance(value, tuple) else ""
    )
    def test_every_key_can_be_overridden(self, job: type[JobConfig], location: tuple[str, ...], tmp_path: Path) -> None:
        before = at(load(job, environ={}), location)
        key = dict(configuration._keys(job))[location]
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
            if (*location[:-1], other) in dict(configuration._keys(job))
        }

        after = load(job, environ={**environ, variable(location): text})

        value = at(after, location)
        assert value != before
        if configuration._is_secret(key):
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
    def test_texts_stay_as_they_are_and_the_rest_is_yaml(self, key: str, text: str, value: Any) -> None:
        location = tuple(key.split("."))
        found = at(load(AssessmentAggregatorConfig, environ={variable(location): text}), location)
        assert (found.get_secret_value() if key == "redis.password" else found) == value

    @pytest.mark.parametrize("text", ["", "  "])
    def test_a_blank_variable_unsets_what_may_be_unset(self, tmp_path: Path, text: str) -> None:
        file = write(tmp_path, {"kafka.group_id": "mine", "cassandra.local_datacenter": "dc1"})
        environ = {
            "AGGREGATES__KAFKA__GROUP_ID": text,
            "AGGREGATES__CASSANDRA__LOCAL_DATACENTER": text,
            "AGGREGATES__REDIS__PASSWORD": text,
        }

        config = load(AssessmentAggregatorConfig, file, environ)

        assert (config.kafka.group_id, config.cassandra.local_datacenter, config.redis.password) == (None, None, None)

    def test_overrides_the_file(self, tmp_path: Path) -> None:
        file = write(tmp_path, {"kafka.env": "file", "retry.patience_ms": 5})
        config = load(
            AssessmentAggregatorConfig, file, {"AGGREGATES__KAFKA__ENV": "variable", "KAFKA__ENV": "not ours"}
        )
        assert (config.kafka.env, config.retry.patience_ms) == ("variable", 5)

    def test_can_give_what_the_file_lacks(self, tmp_path: Path) -> None:
        values = own_yaml(AssessmentAggregatorConfig)
        del values["redis"]
        environ = {"AGGREGATES__REDIS__HOST": "r", "AGGREGATES__REDIS__PORT": "6379"}
        config = load(AssessmentAggregatorConfig, write(tmp_path, yaml.safe_dump(values)), environ)
        assert (config.redis.host, config.redis.port, config.redis.relation_database) == ("r", 6379, 10)

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
    def test_says_which_variable_is_wrong(self, key: str, text: str, message: str) -> None:
        name = variable(key.split("."))
        assert problems(environ={name: text}) == [f"environment: {name} = {message}"]

    @pytest.mark.parametrize("text", ["a", "a:", "a:0", "a:70000", ":9092", "a:1,", "a:1,b", "a:\u0661", "a:-1"])
    def test_servers_are_host_and_port(self, text: str) -> None:
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
        ],
    )
    def test_urls_are_http(self, text: str) -> None:
        said = "must be a URL like https://host:port/path"
        assert problems(environ={"AGGREGATES__CONTENT_READ_API": text}) == [
            f"environment: AGGREGATES__CONTENT_READ_API = {text!r}: {said}"
        ]

    def test_a_base_url_loses_its_last_slash(self) -> None:
        environ = {"AGGREGATES__LEARNER_BASE_URL": "https://learner/api/"}
        config = load(CollectionCertPreProcessorConfig, environ=environ)
        assert config.learner_base_url == "https://learner/api"

    @pytest.mark.parametrize(
        ("name", "allowed"),
        [
            ("AGGREGATES__REDIS__PASSWRD", "AGGREGATES__REDIS__HOST, AGGREGATES__REDIS__PORT, "),
            ("AGGREGATES__REDIS__TLS__CA", "AGGREGATES__REDIS__TLS__CA_FILE, "),
            ("AGGREGATES__REDIS__HOST__X", "AGGREGATES__REDIS__HOST, "),
            ("AGGREGATES__REDIS", "AGGREGATES__KAFKA__…, AGGREGATES__CASSANDRA__…, "),
            ("AGGREGATES__", "AGGREGATES__KAFKA__…, "),
            ("AGGREGATES__redis__host", "AGGREGATES__REDIS__HOST, "),
        ],
    )
    def test_refuses_unknown_variables_without_their_values(self, name: str, allowed: str) -> None:
        (problem,) = problems(environ={name: SECRET})
        assert problem.startswith(f"environment: {name} is unknown; allowed: {allowed}")
        assert SECRET not in problem

    @given(
        st.dictionaries(st.sampled_from([key for job, key in KEYS if job is JOBS[0]]), st.text(max_size=20), max_size=4)
    )
    @settings(max_examples=50, deadline=None)
    def test_whatever_is_given_there_is_a_config_or_a_config_error(self, given_: dict[Any, str]) -> None:
        environ = {variable(location): text for location, text in given_.items()}
        try:
            config = load(JOBS[0], environ=environ)
        except ConfigError as error:
            assert error.problems
        else:
            assert load(JOBS[0], environ=environ) == config


class TestFile:
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
    def test_says_which_key_is_wrong(self, tmp_path: Path, key: str, value: Any, message: str) -> None:
        assert problems(write(tmp_path, {key: value})) == [f"{key} = {message}"]

    def test_refuses_unknown_keys_without_their_values(self, tmp_path: Path) -> None:
        nested, root = problems(write(tmp_path, {"kafka.tls.verfy": SECRET, "kafcka": {"a": SECRET}}))
        assert nested == (
            "kafka.tls.verfy is unknown; allowed: kafka.tls.ca_file, kafka.tls.certificate_file, kafka.tls.key_file, "
            "kafka.tls.key_password, kafka.tls.key_password_file, kafka.tls.verify"
        )
        assert root.startswith("kafcka is unknown; allowed: kafka.…, cassandra.…, ")

    def test_names_what_is_missing_and_its_variable(self, tmp_path: Path) -> None:
        values = own_yaml(AssessmentAggregatorConfig)
        del values["kafka"]["bootstrap_servers"], values["content_read_api"]
        assert problems(write(tmp_path, yaml.safe_dump(values))) == [
            "kafka.bootstrap_servers is missing; set it there or as the variable AGGREGATES__KAFKA__BOOTSTRAP_SERVERS",
            "content_read_api is missing; set it there or as the variable AGGREGATES__CONTENT_READ_API",
        ]

    def test_a_section_is_a_map(self, tmp_path: Path) -> None:
        (problem,) = problems(write(tmp_path, {"redis": None}), {"AGGREGATES__REDIS__PASSWORD": SECRET})
        assert problem.startswith("redis = None: must be a map")

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("kafka: [", ", line 1: not YAML: expected the node content, but found '<stream end>'"),
            ("kafka:\n  a: 1\n  a: 2\n", ", line 3: not YAML: the key a is there twice"),
            ("- 1\n", ": must hold a map of keys"),
            ("", ": must hold a map of keys"),
            ("a: \x07", ": not YAML: it holds characters that are not allowed"),
            ("? [a]\n: b\n", ", line 1: not YAML: found unhashable key"),
        ],
    )
    def test_says_what_is_no_yaml(self, tmp_path: Path, text: str, said: str) -> None:
        file = write(tmp_path, text)
        assert problems(file) == [f"{file}{said}".removeprefix(f"{file}: ")]

    def test_says_what_cannot_be_read(self, tmp_path: Path) -> None:
        assert problems(tmp_path / "none.yaml") == ["cannot be read: No such file or directory"]
        (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
        assert problems(tmp_path / "latin.yaml")[0].startswith("cannot be read: 'utf-8' codec can't decode byte 0xe9")

    def test_says_everything_at_once(self, tmp_path: Path) -> None:
        file = write(tmp_path, {"cassandra.port": "x", "redis.password": SECRET, "unknown": 1})
        assert len(problems(file, {"AGGREGATES__HTTP__MAX_CONNECTIONS": "0", "AGGREGATES__X": "1"})) == 5

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (
                {"kafka.security_protocol": "SASL_SSL"},
                "kafka: security_protocol SASL_SSL needs sasl_username and sasl_password "
                "(variable AGGREGATES__KAFKA__SASL_PASSWORD or key sasl_password_file)",
            ),
            ({"kafka.tls.key_file": "/k"}, "kafka.tls: certificate_file and key_file must be set together"),
            ({"redis.tls.certificate_file": "/c"}, "redis.tls: certificate_file and key_file must be set together"),
            (
                {"cassandra.username": "u"},
                "cassandra: username and password (variable AGGREGATES__CASSANDRA__PASSWORD or key password_file) "
                "go together",
            ),
            (
                {"redis.username": "u"},
                "redis: username needs password (variable AGGREGATES__REDIS__PASSWORD or key password_file)",
            ),
            ({"batch.max_batch_size": 5000}, "batch: max_batch_size must not be greater than max_buffered_requests"),
            ({"retry.initial_backoff_ms": 10_001}, "retry: initial_backoff_ms must not be greater than max_backoff_ms"),
            ({"http.request_timeout_ms": 30_000}, "http: request_timeout_ms must be less than call_timeout_ms"),
        ],
    )
    def test_says_which_keys_do_not_go_together(self, tmp_path: Path, change: dict[str, Any], said: str) -> None:
        assert problems(write(tmp_path, change)) == [said]

    @pytest.mark.parametrize(
        "change", [{"cassandra.tls.enabled": True, "cassandra.tls.verify": "none"}, {"redis.tls.enabled": True}]
    )
    def test_tls_without_own_authorities(self, tmp_path: Path, change: dict[str, Any]) -> None:
        load(AssessmentAggregatorConfig, write(tmp_path, change), {})

    @given(
        st.sampled_from([location for job, location in KEYS if job is JOBS[0]]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
            max_leaves=3,
        ),
    )
    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    def test_whatever_a_key_holds_there_is_a_config_or_a_config_error(
        self, tmp_path: Path, location: tuple[str, ...], value: Any
    ) -> None:
        file = write(tmp_path, {name_of(location): value})
        try:
            assert load(AssessmentAggregatorConfig, file, {}) == load(AssessmentAggregatorConfig, file, {})
        except ConfigError as error:
            assert error.problems


class TestSecrets:
    @pytest.fixture
    def config(self) -> AssessmentAggregatorConfig:
        environ = {variable(location): SECRET for location in SECRETS}
        return load(AssessmentAggregatorConfig, environ={**environ, "AGGREGATES__CASSANDRA__USERNAME": "jobs"})

    def test_are_these(self) -> None:
        assert [name_of(location) for location in SECRETS] == [
            "kafka.sasl_password",
            "kafka.tls.key_password",
            "cassandra.password",
            "cassandra.tls.key_password",
            "redis.password",
        ]

    @pytest.mark.parametrize("job", JOBS)
    def test_have_a_key_for_a_file(self, job: type[JobConfig]) -> None:
        keys = dict(configuration._keys(job))
        secrets = [location for location, key in keys.items() if configuration._is_secret(key)]
        assert {(*location[:-1], f"{location[-1]}_file") for location in secrets} <= keys.keys()

    def test_have_variables_whose_values_flink_hides_in_its_log(self) -> None:
        """`flink run` logs the environment of the program that submits a job, but for what looks like a secret."""
        assert all("password" in variable(location).lower() for location in SECRETS)

    def test_are_not_shown(self, config: AssessmentAggregatorConfig) -> None:
        printed = print_config(config)
        assert printed.count("'**********'") == 5
        assert all(SECRET not in text for text in (printed, repr(config), str(config), f"{config.redis}"))

    @pytest.mark.parametrize("pickler", [pickle, cloudpickle])
    def test_are_shipped_to_the_workers(self, config: AssessmentAggregatorConfig, pickler: Any) -> None:
        arrived = pickle.loads(pickler.dumps(config))
        assert arrived == config
        assert arrived.redis.password.get_secret_value() == SECRET

    @pytest.mark.parametrize("location", SECRETS, ids=name_of)
    def test_are_refused_in_the_file(self, tmp_path: Path, location: tuple[str, ...]) -> None:
        name = name_of(location)
        assert problems(write(tmp_path, {name: SECRET})) == [
            f"{name} = **********: a secret must not be in the file; give it as the variable {variable(location)} "
            f"or name a file that holds it with {name}_file"
        ]

    @pytest.mark.parametrize("value", [SECRET, 4711, [SECRET], {"a": SECRET}, ""])
    def test_are_refused_in_the_file_whatever_they_look_like(self, tmp_path: Path, value: Any) -> None:
        (problem,) = problems(write(tmp_path, {"redis.password": value}))
        assert problem.startswith("redis.password = **********: a secret must not be in the file")

    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    def test_come_from_a_file_without_its_last_newline(self, tmp_path: Path, end: str) -> None:
        (tmp_path / "secret").write_bytes(f" {SECRET} {end}".encode())
        file = write(tmp_path, {"redis.password_file": str(tmp_path / "secret")})
        config = load(AssessmentAggregatorConfig, file, {})
        assert config.redis.password is not None
        assert config.redis.password.get_secret_value() == f" {SECRET} "

    def test_say_what_is_wrong_with_their_file(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_text("\n")
        (tmp_path / "binary").write_bytes(b"\xff")
        for name, said in [
            ("none", "cannot be read: No such file or directory"),
            ("empty", "the file is empty"),
            ("binary", "cannot be read: it is not UTF-8"),
            (".", "cannot be read: Is a directory"),
        ]:
            path = tmp_path / name
            assert problems(environ={"AGGREGATES__REDIS__PASSWORD_FILE": str(path)}) == [
                f"environment: AGGREGATES__REDIS__PASSWORD_FILE = '{path}': {said}"
            ]
        assert problems(write(tmp_path, {"redis.password_file": "/none"})) == [
            "redis.password_file = '/none': cannot be read: No such file or directory"
        ]

    def test_come_from_one_place(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(SECRET)
        file = write(tmp_path, {"redis.password_file": str(tmp_path / "secret")})
        (problem,) = problems(file, {"AGGREGATES__REDIS__PASSWORD": SECRET})
        assert problem.endswith("only one of it and the variable AGGREGATES__REDIS__PASSWORD must be set")

    @pytest.mark.parametrize(
        "name", ["sasl.jaas.config", "ssl.key.password", "security.protocol", "bootstrap.servers", "group.id"]
    )
    def test_do_not_enter_through_the_properties(self, name: str) -> None:
        text = yaml.safe_dump({name: f"password={SECRET}"})
        for key in ("CONSUMER", "PRODUCER"):
            (problem,) = problems(environ={f"AGGREGATES__KAFKA__{key}_PROPERTIES": text})
            assert problem == (
                f"environment: AGGREGATES__KAFKA__{key}_PROPERTIES = '{name}': must not be set here: "
                "it has a key of its own in the section kafka"
            )

    @pytest.mark.parametrize("text", [f"{{sasl.jaas.config: '{SECRET}'", f"[{SECRET}]", SECRET])
    def test_are_not_shown_where_properties_are_no_map(self, text: str) -> None:
        (problem,) = problems(environ={"AGGREGATES__KAFKA__CONSUMER_PROPERTIES": text})
        assert problem == "environment: AGGREGATES__KAFKA__CONSUMER_PROPERTIES = **********: must be a map"

    def test_are_not_shown_where_a_url_holds_one(self) -> None:
        (problem,) = problems(environ={"AGGREGATES__CONTENT_READ_API": f"http://jobs:{SECRET}@content/"})
        name = "AGGREGATES__CONTENT_READ_API"
        assert problem == f"environment: {name} = **********: must be a URL without a user and a password"

    def test_are_not_shown_where_the_file_is_no_yaml(self, tmp_path: Path) -> None:
        assert SECRET not in "".join(problems(write(tmp_path, f"redis:\n  password: '{SECRET}\n")))


class TestCommandLine:
    def test_gives_the_configuration(self, tmp_path: Path) -> None:
        file = write(tmp_path, {"kafka.env": "file"})
        config = parse_arguments(AssessmentAggregatorConfig, ["--config", str(file)], {})
        assert config == load(AssessmentAggregatorConfig, file, {})
        assert parse_arguments(AssessmentAggregatorConfig, [], {}) == load(AssessmentAggregatorConfig, environ={})

    def test_prints_what_another_start_can_use(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            parse_arguments(AssessmentAggregatorConfig, ["--print-config"], {"AGGREGATES__KAFKA__ENV": "prod"})
        assert ended.value.code in (None, 0)
        printed = capsys.readouterr().out
        assert load(AssessmentAggregatorConfig, write(tmp_path, printed), {}).kafka.env == "prod"

    def test_ends_with_the_problems(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            parse_arguments(AssessmentAggregatorConfig, ["--print-config"], {"AGGREGATES__KAFKA__ENV": "a b"})
        assert ended.value.code == 2
        assert capsys.readouterr() == (
            "",
            "environment: AGGREGATES__KAFKA__ENV = 'a b': must match pattern '^[a-zA-Z0-9._-]{1,100}$'\n",
        )

    def test_a_config_does_not_change(self) -> None:
        config = load(AssessmentAggregatorConfig, environ={})
        with pytest.raises(ValueError, match="frozen"):
            config.kafka.env = "other"
