"""The OpenAPI document, generated from the types of the operations, and a page that shows it. Pure."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

import msgspec

from services.envelope import MANAGED_USER_TOKEN, USER_TOKEN
from services.operations import Operation

_ERRORS = {
    "400": "The request cannot be used",
    "401": "No token, or one that does not hold",
    "413": "The body is too large",
    "500": "The work could not be done",
    "503": "Too many requests at a time",
}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document, OpenAPI 3.1, of these operations."""
    types = [type_ for operation in operations for type_ in (operation.request, operation.answer, operation.error)]
    schemas, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths = {}
    for index, operation in enumerate(operations):
        request, answer, error = schemas[3 * index : 3 * index + 3]
        for number, path in enumerate(operation.paths):
            paths[path] = {"post": _operation(operation, number, request, answer, error)}
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


def _operation(operation: Operation, number: int, request: Any, answer: Any, error: Any) -> dict[str, Any]:
    # The viewer service answers 400 where a token does not hold.
    has_401 = operation.viewer_api is None and not operation.is_private
    errors = {status: text for status, text in _ERRORS.items() if status != "401" or has_401}
    return {
        "operationId": f"{operation.name}_{number}" if number else operation.name,
        "summary": operation.summary,
        "security": [] if operation.is_private else [{"user": []}, {"user": [], "managedUser": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": request}}},
        "responses": {
            "200": {"description": "Done", "content": {"application/json": {"schema": answer}}},
            **{
                status: {"description": text, "content": {"application/json": {"schema": error}}}
                for status, text in errors.items()
            },
        },
    }


def page(openapi: dict[str, Any]) -> str:
    """The document for people: one page without scripts, so that it works without access to other sites."""
    parts = []
    for path, item in openapi["paths"].items():
        operation = item["post"]
        parts.append(f"<h2>POST {escape(path)}</h2><p>{escape(operation['summary'])}</p>")
        request = operation["requestBody"]["content"]["application/json"]["schema"]
        parts.append(f"<p>Request: {_link(request)}</p><ul>")
        for status, response in operation["responses"].items():
            schema = response["content"]["application/json"]["schema"]
            parts.append(f"<li>{status}: {escape(response['description'])}, {_link(schema)}</li>")
        parts.append("</ul>")
    parts.append("<h2>Types</h2>")
    for name, schema in openapi["components"]["schemas"].items():
        text = json.dumps(schema, indent=2, ensure_ascii=False)
        parts.append(f'<h3 id="{escape(name)}">{escape(name)}</h3><pre>{escape(text)}</pre>')
    title = escape(openapi["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>'
        f'<p><a href="openapi.json">OpenAPI document</a></p>{"".join(parts)}</html>'
    )


def _link(schema: dict[str, Any]) -> str:
    name = escape(schema["$ref"].rpartition("/")[2])
    return f'<a href="#{name}">{name}</a>'
