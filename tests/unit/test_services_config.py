"""The configuration of the services, and their OpenAPI document."""

import jsonschema_rs
import pytest

from common.config.loader import ConfigError, load, print_config
from services.config import ServicesConfig
from services.openapi import document, page
from services.operations import OPERATIONS
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
        ("TOKENS__ISSUER", " ", "ISSUER"),
        ("SERVER__INTERNAL_PORT", "19185", "port and internal_port must differ"),
        ("SERVER__TLS__KEY_FILE", "key.pem", "certificate_file and key_file must be set together"),
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


def test_an_issuer_is_required() -> None:
    variables = {**REQUIRED[ServicesConfig]}
    del variables["AGGREGATES__TOKENS__ISSUER"]

    with pytest.raises(ConfigError, match=r"tokens\.issuer"):
        load(ServicesConfig, environ=variables)


def test_the_document_describes_every_type_it_names() -> None:
    openapi = document(OPERATIONS)
    html = page(openapi)

    names = openapi["components"]["schemas"].keys()
    assert {"ContentState", "GroupActivity", "AssessmentRequest", "FlatAssessmentRequest", "ContentScore"} <= names
    assert "bestScore" not in openapi["components"]["schemas"]["ContentState"]["required"]
    assert all(f'id="{name}"' in html for name in names)
    assert "401" not in openapi["paths"]["/v1/assess/read"]["post"]["responses"]
    assert "401" in openapi["paths"]["/v1/content/state/read"]["post"]["responses"]


def test_every_example_of_the_document_fits_its_schema() -> None:
    openapi = document(OPERATIONS)

    checked = 0
    for item in openapi["paths"].values():
        operation = item["post"]
        for holder in (operation["requestBody"], *operation["responses"].values()):
            content = holder["content"]["application/json"]
            schema = {**content["schema"], "components": openapi["components"]}
            for example in content["examples"].values():
                jsonschema_rs.validate(schema, example["value"])
                checked += 1
    assert checked > 60


def test_every_error_status_is_in_the_document() -> None:
    post = document(OPERATIONS)["paths"]["/v1/group/activity/agg"]["post"]

    assert post["responses"].keys() == {"200", "400", "401", "403", "413", "500", "503"}
    assert post["responses"]["503"]["headers"].keys() == {"Retry-After"}
    assert post["responses"]["200"]["headers"].keys() == {"x-response-length", "Access-Control-Allow-Origin"}
    codes = {
        example["value"]["params"]["err"]
        for example in post["responses"]["400"]["content"]["application/json"]["examples"].values()
    }
    assert codes == {
        "INVALID_REQUESTED_DATA",
        "DATA_TYPE_ERROR",
        "GROUP_ID_MISSING",
        "ACTIVITY_ID_MISSING",
        "ACTIVITY_TYPE_MISSING",
    }
