"""The command line and its configuration: told at once what is wrong, and no secret is shown."""

import pytest

from common.config.loader import ConfigError, load
from reports import __main__ as command
from reports import progress, response
from reports.config import ReportsConfig, RequestsReportsConfig
from tests.support.required_keys import REQUIRED

SECRETS = ("CASSANDRA", "REDIS", "POSTGRES")


def test_the_checked_in_columns_are_those_of_the_code() -> None:
    config = load(ReportsConfig, environ=REQUIRED[ReportsConfig])
    assert list(config.progress_columns.items()) == list(progress.COLUMNS.items())
    assert list(config.response_columns.items()) == list(response.COLUMNS.items())


def test_printed_without_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in REQUIRED[RequestsReportsConfig].items():
        monkeypatch.setenv(name, value)
    for server in SECRETS:
        monkeypatch.setenv(f"AGGREGATES__{server}__PASSWORD", "hush-hush")
    monkeypatch.setenv("AGGREGATES__CASSANDRA__USERNAME", "reports")
    assert command.main(["--print-config", "requests", "--out", "exhaust"]) == 0
    printed = capsys.readouterr().out
    assert "hush-hush" not in printed
    assert printed.count("**********") == len(SECRETS)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "PROGRESS_COLUMNS",
            "{userid: User, foo: Bar}",
            "unknown column foo; allowed: courseid, collectionName, .*status",
        ),
        ("PROGRESS_COLUMNS", "{userid: User, state: User}", "must not have a title twice"),
        ("RESPONSE_COLUMNS", "{}", "at least 1 item"),
        ("ENROLMENTS_TABLE", "enrolments", "must be 'user_enrolments' or 'report_user_enrolments'"),
        ("POSTGRES__TABLE", "job request; --", "match pattern"),
        ("POSTGRES__SSL_MODE", "verify-full", "ssl_mode: verify-full needs ssl_ca_file"),
        ("HIERARCHY_KEYSPACE", "a.b", "match pattern"),
        ("TIME_ZONE", "Kolkata", "must be the name of a time zone"),
        ("SCAN_RANGES", "0", "greater than or equal to 1"),
        ("REQUESTS__NAME", "1", "is unknown; allowed: .*MAX_ITERATIONS"),
    ],
)
def test_wrong_configuration(name: str, value: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(ReportsConfig, environ={**REQUIRED[ReportsConfig], f"AGGREGATES__{name}": value})


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["progress", "--batch", "b"],
        ["progress", "--out", "x"],
        ["response", "--batch", "b", "--out", "x", "--csv", "--password-file", "y"],
        ["requests", "--job", "userinfo-exhaust"],
        ["progress", "--batch", "b", "--out", "x", "--channel", ""],
    ],
)
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    assert end.value.code == 2
    assert "usage: python -m reports" in capsys.readouterr().err


def test_a_configuration_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGGREGATES__CASSANDRA__PORT", "many")
    with pytest.raises(SystemExit) as end:
        command.main(["requests"])
    assert end.value.code == 2
    assert "AGGREGATES__CASSANDRA__PORT = 'many'" in capsys.readouterr().err
