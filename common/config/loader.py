"""Reads a configuration: the shipped YAML, a file of the user's, environment variables, and files with secrets.

* Each layer overrides the one before, key by key: the ``config.yaml`` of each package around the configuration, from
  the outside in (``jobs/config.yaml``, then ``jobs/assessment_aggregator/config.yaml``), the file given with
  ``--config``, the environment. A list, or a map such as ``consumer_properties``, is one value and is replaced whole.
* The variable of a key is ``AGGREGATES__`` and the key's path in capitals, joined by two underscores:
  ``AGGREGATES__KAFKA__BOOTSTRAP_SERVERS`` for ``kafka.bootstrap_servers``. Lists and maps are written as in YAML:
  ``[10.0.0.1, 10.0.0.2]``. A blank variable unsets a key that may be null.
* Secrets come from a variable or from a file named by ``<key>_file``, never from YAML, and are never printed.
* All problems are reported at once. ``docs/decisions/configuration.md`` says why this is not pydantic-settings.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from common.config.section import PREFIX, Section
from common.config.values import Secret
from common.config.yaml_file import ConfigError, read_yaml

__all__ = ["ConfigError", "load", "package_of", "parse_arguments", "print_config", "variable"]

HIDDEN = "**********"
_LONGEST_VALUE = 100

Location = tuple[str, ...]
"""The path of a key: ``("kafka", "env")`` for ``kafka.env``."""

Config = TypeVar("Config", bound=Section)


def load(
    config_class: type[Config],
    path: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    maps: Iterable[tuple[Mapping[str, Any], str]] = (),
) -> Config:
    """Reads the shipped files, ``path`` over them, and ``environ`` over both. Raises ConfigError with all problems.

    ``maps`` are laid over the shipped files, each with the name of its source.
    """
    layers = _Layers(config_class)
    for file in _shipped_files(config_class):
        layers.add_map(read_yaml(file), str(file))
    for values, source in maps:
        layers.add_map(values, source)
    if path:
        layers.add_map(read_yaml(path), str(path))
    layers.add_environment(environ)
    layers.read_secret_files()
    layers.require_hidden_secrets()
    try:
        config = config_class.model_validate(layers.nested())
    except ValidationError as error:
        layers.problems += map(layers.explain, error.errors())
    if layers.problems:
        raise ConfigError(layers.problems)
    return config


def package_of(config_class: type[Section]) -> str:
    """The package that a configuration belongs to, which holds its ``config.yaml``: ``jobs.assessment_aggregator``."""
    return config_class.__module__.rpartition(".")[0]


def print_config(config: Section) -> str:
    """The configuration as YAML, which ``--config`` takes again. ``**********`` is a secret, to be set again."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_arguments(
    config_class: type[Config],
    arguments: Sequence[str],
    environ: Mapping[str, str] = os.environ,
    parents: Sequence[argparse.ArgumentParser] = (),
) -> Config:
    """The configuration that the command line of a program asks for.

    ``parents`` have the arguments of the program that are not about configuration. Ends the program with code 0 after
    ``--print-config`` and ``--help``, and with code 2 and the problems on stderr if the arguments or the configuration
    cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {package_of(config_class)}",
        description=config_class.__doc__,
        parents=parents,
        epilog=f"Every key can be overridden by a variable, such as {PREFIX}CASSANDRA__PORT for cassandra.port.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file whose keys override the shipped ones")
    parser.add_argument("--print-config", action="store_true", help="print the result, without secrets, and exit")
    options = parser.parse_args(arguments)
    try:
        config = load(config_class, options.config, environ)
    except ConfigError as error:
        parser.exit(2, f"{error}\n")
    if options.print_config:
        sys.stdout.write(print_config(config))
        parser.exit()
    return config


def variable(location: Sequence[str]) -> str:
    """The environment variable of a key: ``AGGREGATES__KAFKA__ENV`` for ``("kafka", "env")``."""
    return PREFIX + "__".join(location).upper()


def fields(section: type[Section], above: Location = ()) -> Iterator[tuple[Location, FieldInfo]]:
    """Every section and every key below ``section``, with its path. A section comes before its keys."""
    for name, field in section.model_fields.items():
        yield (*above, name), field
        if inner := section_of(field):
            yield from fields(inner, (*above, name))


def section_of(field: FieldInfo) -> type[Section] | None:
    """The class of a field that is a section; None for a key."""
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def is_secret(field: FieldInfo) -> bool:
    """Whether the value must not be shown or stored."""
    return field.annotation == Secret


def _shipped_files(config_class: type[Section]) -> list[Traversable]:
    own = package_of(config_class)
    names = own.split(".")
    outer = [".".join(names[:end]) for end in range(1, len(names))]
    files = [resources.files(package) / "config.yaml" for package in outer]
    return [file for file in files if file.is_file()] + [resources.files(own) / "config.yaml"]


@dataclass(frozen=True, slots=True)
class _Given:
    """A value, the source it came from (a file or the environment), and what the key is called there."""

    value: Any
    source: str
    name: str
    text: str | None = None
    """Of a variable, before it was parsed."""

    @property
    def place(self) -> str:
        return f"{self.source}: {self.name}"


class _Layers:
    """Collects what the sources give, the later ones over the earlier ones, and what is wrong with it."""

    def __init__(self, config_class: type[Section]) -> None:
        self.problems: list[str] = []
        self._fields = dict(fields(config_class))
        self._given: dict[Location, _Given] = {}
        self._hidden: dict[Location, _Given] = {}
        """Secrets that :func:`print_config` has shown as set."""

    def add_map(self, values: Mapping[Any, Any], file: str, above: Location = ()) -> None:
        """The keys of a YAML file below ``above``."""
        for key, value in values.items():
            location = (*above, str(key))
            field = self._fields.get(location)
            given = _Given(value, file, _dotted(location))
            if field is None:
                # Without its value, which may be that of a misspelt secret.
                self.problems.append(f"{given.place} is unknown; allowed: {self._allowed(location, _dotted)}")
            elif section_of(field):
                if isinstance(value, dict):
                    self.add_map(value, file, location)
                else:
                    self.problems.append(f"{given.place} = {HIDDEN}: must be a map of keys")
            elif not is_secret(field):
                self._given[location] = given
            elif value == HIDDEN:
                self._hidden[location] = given
            elif value is not None:
                self._refuse_secret(location, given, "secrets are not allowed in the file")

    def add_environment(self, environ: Mapping[str, str]) -> None:
        for name, text in sorted(environ.items()):
            if not name.startswith(PREFIX):
                continue
            location = tuple(name.removeprefix(PREFIX).lower().split("__"))
            field = self._fields.get(location)
            if field is None or section_of(field) or name != variable(location):
                allowed = self._allowed(location, variable)
                self.problems.append(f"environment: {name} is unknown; allowed: {allowed}")
            else:
                self._given[location] = _Given(_parse(field, text), "environment", name, text)

    def read_secret_files(self) -> None:
        for location, field in self._fields.items():
            file = self._given.get(_file_key(location)) if is_secret(field) else None
            if file is None or not isinstance(file.value, str) or not file.value.strip():
                continue  # not set, or a value that the key itself is reported for
            secret = self._given.get(location)
            try:
                if secret is not None and secret.value is not None:
                    raise ValueError(f"only one of this and the variable {variable(location)} may be set")
                self._given[location] = _Given(_read_secret(Path(file.value)), file.source, file.name)
            except ValueError as error:
                self.problems.append(f"{file.place} = {_show(file.value)}: {error}")

    def require_hidden_secrets(self) -> None:
        """Without them a program might start and do something else."""
        for location, given in self._hidden.items():
            if location not in self._given:
                self._refuse_secret(location, given, "stands for a secret, which is not set")

    def _refuse_secret(self, location: Location, given: _Given, why: str) -> None:
        self.problems.append(
            f"{given.place} = {HIDDEN}: {why}; set the variable {variable(location)}, or name a file that holds the "
            f"secret with {_dotted(_file_key(location))}"
        )

    def nested(self) -> dict[str, Any]:
        """The values as the model takes them. Every section is there, so that a missing key is reported by its path."""
        values: dict[str, Any] = {}
        for location, field in self._fields.items():
            if section_of(field) or location in self._given:
                section = values
                for part in location[:-1]:
                    section = section[part]
                section[location[-1]] = {} if section_of(field) else self._given[location].value
        return values

    def explain(self, problem: Any) -> str:
        """One line for an error of pydantic's."""
        location = tuple(str(part) for part in problem["loc"] if part != "[key]")
        if problem["type"] == "missing":
            return f"{_dotted(location)} is missing; set the variable {variable(location)}, or the key in --config FILE"
        if problem["type"] == "conflict":
            values = "; ".join(self._describe(key, (*location, *key.split("."))) for key in problem["ctx"]["keys"])
            return f"{_dotted(location)}: {problem['msg']} ({values})".removeprefix(": ")
        at = next((location[:end] for end in range(len(location), 0, -1) if location[:end] in self._given), None)
        if at is None:  # a check of a section as a whole
            return f"{_dotted(location)}: {_said(problem)}".removeprefix(": ")
        given = self._given[at]
        shown = _show(given.text if at == location and given.text is not None else problem["input"])
        if problem["type"] in ("dict_type", "password_in_url") or is_secret(self._fields[at]):
            shown = HIDDEN  # a secret may be somewhere in the text
        name = _dotted(location) if given.text is None else given.name
        return f"{given.source}: {name} = {shown}: {_said(problem)}"

    def _describe(self, key: str, location: Location) -> str:
        given = self._given.get(location)
        if given is None or given.value is None:
            return f"{key} is not set"
        shown = HIDDEN if is_secret(self._fields[location]) else _show(given.value)
        return f"{key} = {shown} from {given.place if given.text is not None else given.source}"

    def _allowed(self, location: Location, name: Callable[[Location], str]) -> str:
        """The keys of the section that ``location`` leads to, as far as it is known."""
        section = location[:-1]
        while section and not (section in self._fields and section_of(self._fields[section])):
            section = section[:-1]
        return ", ".join(
            name((*key, "…") if section_of(field) else key)
            for key, field in self._fields.items()
            if key[:-1] == section
        )


def _parse(field: FieldInfo, text: str) -> Any:
    """The value of a variable: the text itself if the key takes texts, else what it means in YAML.

    A text that the key does not take is returned as it is: the validation of the whole configuration reports it.
    """
    if not text.strip():
        return text if _errors(field, None) else None
    errors = _errors(field, text)
    if errors and all(error["type"].endswith("_type") for error in errors):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


def _errors(field: FieldInfo, value: Any) -> Sequence[Any]:
    try:
        TypeAdapter[Any](field.rebuild_annotation(), config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        return error.errors()
    return ()


def _file_key(location: Location) -> Location:
    return (*location[:-1], f"{location[-1]}_file")


def _read_secret(file: Path) -> str:
    """Without the newline at its end. Raises ValueError."""
    try:
        secret = file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("cannot be read: it is not UTF-8") from None
    if not secret.strip():
        raise ValueError("the file is empty")
    return secret


def _said(problem: Any) -> str:
    """Pydantic's message in the words of YAML, which has lists, maps and texts."""
    said: str = problem["msg"]
    for theirs, ours in (
        ("Value error, ", ""),
        ("Input should", "must"),
        ("String should", "must"),
        ("Tuple should", "must"),
        (" after validation, not 0", ""),
        ("valid tuple", "list"),
        ("valid dictionary", "map"),
        ("valid string", "text"),
    ):
        said = said.replace(theirs, ours)
    return said


def _show(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return "a map" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _dotted(location: Location) -> str:
    return ".".join(location)
