"""The OpenAPI document, generated from the operations and their types, and a page that shows it. Pure."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from html import escape
from http import HTTPStatus
from typing import Any

import msgspec

from services.envelope import (
    MANAGED_USER_TOKEN,
    USER_TOKEN,
    CourseEnvelope,
    Envelope,
    MessageIds,
    ViewerEnvelope,
)
from services.operations import Operation

_TIME_MS = 1_715_658_164_310
_IDS = MessageIds("5d2f8d6c-0a5f-4f58-8b0a-1f8d8a2c7f11", "7c9e6679-7425-40de-944b-e07fc1f90ae7")
"""Of the examples."""

_MESSAGE_ID = {
    "name": "X-msgId",
    "in": "header",
    "description": "An id that the answer and the log lines of the request have",
    "schema": {"type": "string"},
}
_RETRY_AFTER = {"description": "Seconds", "required": True, "schema": {"type": "integer"}}
_COURSE_HEADERS = {
    "x-response-length": {"description": "Bytes of result", "required": True, "schema": {"type": "integer"}},
    "Access-Control-Allow-Origin": {"required": True, "schema": {"const": "*"}},
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document, OpenAPI 3.1, of these operations."""
    types = [type_ for operation in operations for type_ in (*operation.requests, operation.answer, operation.error)]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    remaining = iter(schemas)
    paths = {}
    for operation in operations:
        requests = [next(remaining) for _ in operation.requests]
        answer, error = next(remaining), next(remaining)
        for number, path in enumerate(operation.paths):
            paths[path] = {"post": _operation(operation, number, requests, answer, error)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Learners' aggregates", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "user": {"type": "apiKey", "in": "header", "name": USER_TOKEN},
                "managedUser": {"type": "apiKey", "in": "header", "name": MANAGED_USER_TOKEN},
            },
        },
    }


def _operation(operation: Operation, number: int, requests: Sequence[Any], answer: Any, error: Any) -> dict[str, Any]:
    viewer_api = operation.viewer_api
    envelope: Envelope = ViewerEnvelope(viewer_api) if viewer_api else CourseEnvelope(UTC)
    path = operation.paths[number]
    body, _ = envelope.success(path, _IDS, _TIME_MS, operation.result_example)
    success = {"description": "Done", "content": _content(answer, {"Done": msgspec.json.decode(body)})}
    if viewer_api is None:
        success["headers"] = _COURSE_HEADERS
    if operation.links:
        success["links"] = {
            name: {"operationId": link.operation, "requestBody": link.body} for name, link in operation.links.items()
        }
    body_schema = requests[0] if len(requests) == 1 else {"anyOf": list(requests)}
    if operation.request_schema:
        body_schema = {"allOf": [body_schema, {"properties": {"request": operation.request_schema}}]}
    examples = {name: {"request": request} for name, request in operation.request_examples.items()}
    return {
        "operationId": f"{operation.name}_{number}" if number else operation.name,
        "summary": operation.summary,
        "security": [] if operation.is_private else [{"user": []}, {"user": [], "managedUser": []}],
        "parameters": [_MESSAGE_ID],
        "requestBody": {
            "required": True,
            "content": _content(body_schema, examples),
        },
        "responses": {"200": success, **_errors(operation, path, envelope, error)},
    }


def _errors(operation: Operation, path: str, envelope: Envelope, schema: Any) -> dict[str, Any]:
    """The responses by status, each with all its errors as examples."""
    responses: dict[str, Any] = {}
    examples: dict[int, dict[str, Any]] = {}
    for when, error in operation.errors.items():
        body = envelope.failure(path, _IDS, _TIME_MS, error)
        examples.setdefault(error.http_status, {})[when] = msgspec.json.decode(body)
    for status, of_status in sorted(examples.items()):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": _content(schema, of_status),
        }
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            responses[str(status)]["headers"] = {"Retry-After": _RETRY_AFTER}
    return responses


def _content(schema: Any, examples: Mapping[str, Any]) -> dict[str, Any]:
    named = {
        f"example-{number}": {"summary": summary, "value": value}
        for number, (summary, value) in enumerate(examples.items())
    }
    return {"application/json": {"schema": schema, "examples": named}}


def page(openapi: dict[str, Any]) -> str:
    """The document for people: one page without scripts, which works without access to other sites."""
    parts = []
    for path, item in openapi["paths"].items():
        operation = item["post"]
        parts.append(f"<h2>POST {escape(path)}</h2><p>{escape(operation['summary'])}</p>")
        parts.append(f"<p>Request: {_described(operation['requestBody'])}</p><ul>")
        for status, response in operation["responses"].items():
            parts.append(f"<li>{status} {escape(response['description'])}: {_described(response)}</li>")
        parts.append("</ul>")
    parts.append("<h2>Types</h2>")
    for name, schema in openapi["components"]["schemas"].items():
        parts.append(f'<h3 id="{escape(name)}">{escape(name)}</h3><pre>{_shown(schema)}</pre>')
    title = escape(openapi["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>'
        f'<p><a href="openapi.json">OpenAPI document</a></p>{"".join(parts)}</html>'
    )


def _described(holder: dict[str, Any]) -> str:
    """Links to the types of a body, and its examples."""
    content = holder["content"]["application/json"]
    schema = content["schema"].get("allOf", [content["schema"]])[0]
    names = [one["$ref"].rpartition("/")[2] for one in schema.get("anyOf", [schema])]
    links = " or ".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in names)
    examples = "".join(
        f"<details><summary>{escape(example['summary'])}</summary><pre>{_shown(example['value'])}</pre></details>"
        for example in content["examples"].values()
    )
    return f"{links}{examples}"


def _shown(value: Any) -> str:
    return escape(json.dumps(value, indent=2, ensure_ascii=False))
