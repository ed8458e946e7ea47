"""What every section of a configuration has in common."""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model
from pydantic_core import PydanticCustomError

PREFIX = "AGGREGATES__"
"""Of every variable. Two underscores: Kubernetes sets ``AGGREGATES_PORT`` where a service is named ``aggregates``."""


def conflict(message: str, *keys: str) -> PydanticCustomError:
    """The error to raise when ``keys`` (paths within the section that checks them) cannot be used together.

    The loader adds the value of each key and where it came from.
    """
    return PydanticCustomError("conflict", "{message}", {"message": message, "keys": keys})


class Section(BaseModel):
    """A part of a configuration. It is frozen, refuses unknown keys and does not convert between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


def section_of_texts(module: str, name: str, docstring: str, keys: Iterable[str], text: Any) -> type[Section]:
    """A section with the ``keys`` of a list that is kept elsewhere; each is of type ``text`` and null by default.

    It must become the attribute ``name`` of ``module``, where pickle looks for it.
    """
    fields: dict[str, Any] = dict.fromkeys(keys, (text | None, None))
    return create_model(name, __base__=Section, __module__=module, __doc__=docstring, **fields)
