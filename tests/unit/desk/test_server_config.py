"""Which tokens and proxies the desk's server accepts in its configuration."""

import pytest

from common.config.loader import load
from common.config.yaml_file import ConfigError
from desk.config import DeskConfig, wording_of
from desk.sentences import LANGUAGES
from tests.support.required_keys import REQUIRED

LONG, OTHER = "a-token-of-the-operators", "another-token-of-theirs"


def loaded(**variables: str) -> DeskConfig:
    named = {f"AGGREGATES__{name}": value for name, value in variables.items()}
    return load(DeskConfig, environ={**REQUIRED[DeskConfig], **named})


def test_nobody_has_access_by_default() -> None:
    assert not loaded().server.has_access
    assert loaded(SERVER__VIEWER_TOKEN=LONG).server.has_access
    assert loaded(SERVER__USER_HEADER="X-Forwarded-User").server.has_access


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"SERVER__VIEWER_TOKEN": "short"}, "a token must have at least 16 characters"),
        ({"SERVER__VIEWER_TOKEN": LONG, "SERVER__REPAIRER_TOKEN": LONG}, "must differ"),
        ({"SERVER__REPAIRERS": "[olga]"}, "user_header must be set"),
        ({"SERVER__USER_HEADER": "X Forwarded"}, "must match pattern"),
        ({"LANGUAGE": "xx"}, "must be one of en"),
    ],
)
def test_what_cannot_be_used_is_refused(variables: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        loaded(**variables)
    assert LONG not in str(caught.value)


def test_two_tokens_and_each_language_are_accepted() -> None:
    config = loaded(SERVER__VIEWER_TOKEN=LONG, SERVER__REPAIRER_TOKEN=OTHER)
    for language in LANGUAGES:
        assert wording_of(config, language).sentences is LANGUAGES[language]
