"""Reads small forms: the fields of a body of ``application/x-www-form-urlencoded``."""

from urllib.parse import parse_qs

from starlette.exceptions import HTTPException
from starlette.requests import Request

MAX_BODY_IN_BYTES = 200_000
"""A selection of a thousand failed events and their ids fits."""


async def read_form(request: Request) -> dict[str, list[str]]:
    """The values of each field. Raises HTTPException 413 for a large body, 400 for one that is no form."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_IN_BYTES:
            raise HTTPException(413, "The form is too large.")
    try:
        return parse_qs(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=2_000)
    except ValueError as error:
        raise HTTPException(400, "This is not a form.") from error


def one(form: dict[str, list[str]], name: str) -> str:
    """The value of a field; empty if it is missing."""
    return form.get(name, [""])[0].strip()
