"""What the OpenAPI documents of both ports promise, on a real server: schemathesis makes the requests."""

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import checks as schema_checks
from schemathesis.generation.stateful.state_machine import StepInput

from local.http_services import HttpServices
from local.world import World
from tests.support.read_apis import GROUP_AGG, MAX_BODY, PRIVATE_STATE, PUBLIC, STATE, Services, start

CHECKS = [
    schema_checks.content_type_conformance,
    schema_checks.response_headers_conformance,
    schema_checks.response_schema_conformance,
    schema_checks.status_code_conformance,
    schema_checks.unsupported_method,
]
LINKS = {"submitSaved", "bestScores", "attempts"}
BOUNDED = settings(derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.fixture(scope="module")
def services(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    env = f"services-schema-{os.getpid()}"
    world.kafka.create_topics([f"{env}.telemetry.assess", f"{env}.telemetry.assess.failed"], 1)
    with HttpServices() as groups:
        services = start(world, tmp_path_factory.mktemp("services"), groups, env)
        yield services
        services.process.terminate()
        assert services.process.wait(30) in (0, -signal.SIGTERM)
    assert "Traceback" not in services.log, services.log


def schema_of(services: Services, path: str) -> schemathesis.schemas.BaseSchema:
    """The document of the port that serves the path."""
    url = services.internal_url if path == PRIVATE_STATE else services.url
    return schemathesis.openapi.from_url(f"{url}/openapi.json")


def token(services: Services) -> dict[str, str]:
    return {"x-authenticated-user-token": services.issuer.token("u-fuzz")}


def test_every_operation_of_both_documents_is_tested(services: Services) -> None:
    documented = {
        path for port_path in (STATE, PRIVATE_STATE) for path in schema_of(services, port_path).raw_schema["paths"]
    }

    assert documented == {*PUBLIC, PRIVATE_STATE}


def test_what_one_operation_answers_is_what_the_next_one_takes(services: Services) -> None:
    """Along the links of the document: saved attempts are submitted, submitted ones are read, and so on."""
    headers = token(services)
    linked = set()

    class Client(schema_of(services, STATE).as_state_machine()):  # type: ignore[misc]
        def get_call_kwargs(self, case: "schemathesis.Case[Any]") -> dict[str, Any]:
            case.headers.pop("x-authenticated-for", None)
            return {"headers": headers}

        def validate_response(self, response: schemathesis.Response, case: "schemathesis.Case[Any]", **_: Any) -> None:
            case.validate_response(response, headers=headers, checks=CHECKS)
            assert response.status_code < 500 or is_specified(case, response), response.text

        def step(self, step: StepInput) -> Any:
            output = super().step(step)
            if step.transition is not None and step.is_applied and output.response.status_code == 200:
                # POST /v1/assess/save -> [200] submitSaved -> POST /v1/assess/submit
                linked.add(step.transition.id.split()[4])
            return output

    # Which links are drawn is random, and a link is followed only from an answer 200.
    for _ in range(10):
        Client.run(settings=settings(BOUNDED, derandomize=False, max_examples=15, stateful_step_count=6))
        if linked >= LINKS:
            break
    assert linked >= LINKS


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize("path", [*PUBLIC, PRIVATE_STATE])
def test_no_input_makes_a_server_error(services: Services, path: str, mode: schemathesis.GenerationMode) -> None:
    """What the document allows and what it does not: the answer is one of the document, and 500 only where the spec
    has it. What it allows is accepted, what it does not is refused."""
    schema = schema_of(services, path)
    headers = token(services)
    statuses = set()
    checks = list(CHECKS)
    # The group service knows no group of a made-up name.
    is_accepted = mode is schemathesis.GenerationMode.POSITIVE and path != GROUP_AGG
    if mode is schemathesis.GenerationMode.NEGATIVE and "assess/s" not in path and "assessment/s" not in path:
        checks.append(schema_checks.negative_data_rejection)  # an assessment that is refused is told so in a 200
    if path in (STATE, GROUP_AGG):
        checks.append(schema_checks.ignored_auth)  # the viewer service answers 400 where that check expects 401

    @given(schema[path]["POST"].as_strategy(generation_mode=mode))
    @settings(BOUNDED, max_examples=10)
    def check(case: "schemathesis.Case[Any]") -> None:
        # A managed user's token that is made up is refused, which says nothing about the rest of the request.
        case.headers.pop("x-authenticated-for", None)
        response = case.call(headers=headers)
        case.validate_response(response, headers=headers, checks=checks)
        statuses.add(response.status_code)
        assert response.status_code < 500 or is_specified(case, response), response.text
        assert not is_accepted or response.status_code == (200 if size_of(response) <= MAX_BODY else 413), response.text

    check()
    # A group that nobody knows is an error of the group service, which the document has as 500.
    is_unknown_group = mode is schemathesis.GenerationMode.POSITIVE and path == GROUP_AGG
    assert statuses & ({500} if is_unknown_group else {200, 400})


def size_of(response: schemathesis.Response) -> int:
    return int(response.request.headers.get("content-length", "0"))


def is_specified(case: "schemathesis.Case[Any]", response: schemathesis.Response) -> bool:
    """Whether the spec has this 500: no body at all, or a group that the group service does not know."""
    message = response.json()["params"]["errmsg"]
    if message == "Error while fetching group members record.":
        return case.path == GROUP_AGG
    body = response.request.body or b""
    assert isinstance(body, str | bytes), body
    # White space around JSON, also around none, means nothing.
    return (body.encode() if isinstance(body, str) else body).strip() in (b"", b"null")
