"""The configuration of the services, and the OpenAPI document against the routes."""

import pytest
from starlette.routing import Route

from common.config.loader import ConfigError, load, print_config
from services.application import create_application
from services.config import ServicesConfig
from services.openapi import document, page
from services.operations import OPERATIONS
from services.tokens import Tokens
from tests.support.required_keys import REQUIRED


def test_the_file_beside_the_code_is_valid_and_hides_secrets() -> None:
    config = load(ServicesConfig, environ={**REQUIRED[ServicesConfig], "AGGREGATES__REDIS__PASSWORD": "secret-1"})

    assert config.kafka.topic(config.assess_topic) == "dev.telemetry.assess"
    assert "secret-1" not in print_config(config)


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("SERVER__PORT", "0", "greater than or equal to 1"),
        ("SERVER__REQUEST_TIMEOUT_MS", "40000", "must be less than shutdown_timeout_seconds"),
        ("TOKENS__PUBLIC_KEYS_FOLDER", " ", "PUBLIC_KEYS_FOLDER"),
        ("TOKENS__LEEWAY_SECONDS", "301", "less than or equal to 300"),
        ("GROUP_SERVICE__BASE_URL", "ftp://x", "must be a URL"),
        ("TIME_ZONE", "Mars", "must be the name of a time zone"),
        ("KAFKA__GROUP_ID", "g", "AGGREGATES__KAFKA__GROUP_ID is unknown; allowed: "),
        ("GROUP_CACHE", "1", "is unknown; allowed: "),
    ],
)
def test_problems_name_the_key(variable: str, value: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        load(ServicesConfig, environ={**REQUIRED[ServicesConfig], f"AGGREGATES__{variable}": value})


def test_every_operation_is_a_route_and_private_ones_can_be_left_out() -> None:
    def paths(**environ: str) -> set[str]:
        application = create_application(load(ServicesConfig, environ=REQUIRED[ServicesConfig] | environ), Tokens({}))
        return {route.path for route in application.routes if isinstance(route, Route)}

    every = {path for operation in OPERATIONS for path in operation.paths}

    assert every < paths()
    assert every - paths(AGGREGATES__SERVER__PRIVATE_ROUTES="false") == {"/private/v1/content/state/read"}


def test_the_document_describes_every_type_it_names() -> None:
    openapi = document(OPERATIONS)
    html = page(openapi)

    names = openapi["components"]["schemas"].keys()
    assert {"ContentState", "GroupActivity", "AssessmentRequest", "ContentScore"} <= names
    assert "bestScore" not in openapi["components"]["schemas"]["ContentState"]["required"]
    assert all(f'id="{name}"' in html for name in names)
    assert "401" not in openapi["paths"]["/v1/assess/read"]["post"]["responses"]
    assert "401" in openapi["paths"]["/v1/content/state/read"]["post"]["responses"]
