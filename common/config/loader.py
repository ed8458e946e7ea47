"""Reads a configuration: a YAML file, environment variables over it, secrets from files. Names all problems at once."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from common.config.model import PREFIX, Secret, Section

HIDDEN = "**********"
_LONGEST_VALUE = 100

Location = tuple[str, ...]
"""The path of a key: ``("kafka", "env")`` for ``kafka.env``."""

Config = TypeVar("Config", bound=Section)


class ConfigError(ValueError):
    """The configuration cannot be used; ``problems`` has one line for each key at fault. Holds no secret."""

    def __init__(self, problems: Sequence[str]) -> None:
        """``problems`` name the file or variable, the key, its value and what is allowed."""
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def load(config_class: type[Config], path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Reads ``path``, or without one the ``config.yaml`` beside ``config_class``, and lays the environment over it.

    Raises ConfigError that names every problem at once.
    """
    file = resources.files(package_of(config_class)) / "config.yaml" if path is None else path
    reader = _Reader(config_class, str(file), _read_yaml(file))
    reader.refuse_secrets_in_file()
    reader.lay_over(environ)
    reader.read_secret_files()
    try:
        config = config_class.model_validate(reader.values)
    except ValidationError as error:
        reader.problems += map(reader.explain, error.errors())
    if reader.problems:
        raise ConfigError(reader.problems)
    return config


def package_of(config_class: type[Section]) -> str:
    """The package that a configuration belongs to, which holds its ``config.yaml``: ``jobs.assessment_aggregator``."""
    return config_class.__module__.rpartition(".")[0]


def print_config(config: Section) -> str:
    """The configuration as YAML with secrets as ``**********``."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_arguments(
    config_class: type[Config], arguments: Sequence[str], environ: Mapping[str, str] = os.environ
) -> Config:
    """The configuration that a job's command line asks for.

    Ends the program with code 0 after ``--print-config`` and ``--help``, with code 2 and the problems on stderr where
    the arguments or the configuration cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {package_of(config_class)}",
        description=config_class.__doc__,
        epilog=f"Every key can be overridden by a variable, such as {PREFIX}KAFKA__ENV for kafka.env.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file instead of the job's own config.yaml")
    parser.add_argument(
        "--print-config", action="store_true", help="print what would be used, without secrets, and end"
    )
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
    """The environment variable of a key: ``AGGREGATES__KAFKA__ENV`` of ``("kafka", "env")``."""
    return PREFIX + "__".join(location).upper()


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML's loader would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key_node.value} is there twice", problem_mark=key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _read_yaml(file: Traversable) -> dict[str, Any]:
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
    except yaml.MarkedYAMLError as error:
        # Not the whole text of the error: it quotes the lines around, and one may hold a secret.
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError([f"{file}, line {line}: not YAML: {error.problem}"]) from None
    except yaml.YAMLError:
        raise ConfigError([f"{file}: not YAML: it holds characters that are not allowed"]) from None
    if not isinstance(values, dict):
        raise ConfigError([f"{file}: must hold a map of keys"])
    return values


def _parse(key: FieldInfo, text: str) -> Any:
    """The value of a variable: the text itself where the key takes texts, else what YAML reads in it.

    A text that the key does not take is left as it is: the check of the whole configuration says why.
    """
    if not text.strip():
        return text if _errors(key, None) else None
    errors = _errors(key, text)
    if errors and all(error["type"].endswith("_type") for error in errors):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


def _errors(key: FieldInfo, value: Any) -> Sequence[Any]:
    try:
        TypeAdapter[Any](key.rebuild_annotation(), config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        return error.errors()
    return ()


class _Reader:
    """Gathers the values of a configuration in ``values``, and what is wrong with them in ``problems``."""

    def __init__(self, config_class: type[Section], file: str, values: dict[str, Any]) -> None:
        self.values = values
        self.problems: list[str] = []
        self._config_class = config_class
        self._file = file
        self._keys = dict(_keys(config_class))
        self._given: dict[Location, str] = {}
        """The texts of the variables."""

    def refuse_secrets_in_file(self) -> None:
        for location, key in self._keys.items():
            if _is_secret(key) and _take(self.values, location) is not None:
                self.problems.append(
                    f"{self._place(location)} = {HIDDEN}: a secret must not be in the file; give it as the variable "
                    f"{variable(location)} or name a file that holds it with {_dotted(_file_key(location))}"
                )

    def lay_over(self, environ: Mapping[str, str]) -> None:
        for name, text in sorted(environ.items()):
            if not name.startswith(PREFIX):
                continue
            location = tuple(name.removeprefix(PREFIX).lower().split("__"))
            if location in self._keys and name == variable(location):
                self._given[location] = text
                _put(self.values, location, _parse(self._keys[location], text))
            else:
                allowed = _allowed(self._config_class, location, variable)
                self.problems.append(f"environment: {name} is unknown; allowed: {allowed}")

    def read_secret_files(self) -> None:
        for location, key in self._keys.items():
            file_location = _file_key(location)
            name = _get(self.values, file_location) if _is_secret(key) else None
            if not isinstance(name, str) or not name.strip():
                continue  # not given, or a value that the key itself will be charged with
            try:
                if _get(self.values, location) is not None:
                    raise ValueError(f"only one of it and the variable {variable(location)} must be set")
                _put(self.values, location, _read_secret(Path(name)))
            except ValueError as error:
                self.problems.append(f"{self._place(file_location)} = {_show(name)}: {error}")

    def explain(self, problem: Any) -> str:
        """One line for one of pydantic's errors."""
        location = tuple(str(part) for part in problem["loc"] if part != "[key]")
        place = self._place(location)
        match problem["type"]:
            case "missing":
                return f"{place} is missing; set it there or as the variable {variable(location)}"
            case "extra_forbidden":
                # Without its value: it may be that of a misspelt secret.
                return f"{place} is unknown; allowed: {_allowed(self._config_class, location, _dotted)}"
            case "value_error" if isinstance(problem["input"], dict):
                return f"{place}: {_said(problem)}"  # of keys that do not go together
            case "dict_type" | "password_in_url":
                return f"{place} = {HIDDEN}: {_said(problem)}"  # a text that may have a secret somewhere
            case _:
                return f"{place} = {_show(self._given.get(location, problem['input']))}: {_said(problem)}"

    def _place(self, location: Location) -> str:
        """Where the value at ``location`` comes from."""
        for end in range(len(location), 0, -1):
            if location[:end] in self._given:
                return f"environment: {variable(location[:end])}"
        return f"{self._file}: {_dotted(location)}"


def _file_key(location: Location) -> Location:
    return (*location[:-1], f"{location[-1]}_file")


def _read_secret(file: Path) -> str:
    """Without the newline at its end. Raises ValueError that says what is wrong."""
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
    """Pydantic's message in the words of this file: a key must be something, and YAML has lists, maps and texts."""
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


def _allowed(config_class: type[Section], location: Location, name: Callable[[Location], str]) -> str:
    """The keys of the section that ``location`` leads to as far as it is known."""
    section = config_class
    known: Location = ()
    for part in location[:-1]:
        inner = _section(section.model_fields.get(part))
        if inner is None:
            break
        section, known = inner, (*known, part)
    return ", ".join(
        name((*known, key, "…") if _section(field) else (*known, key)) for key, field in section.model_fields.items()
    )


def _keys(section: type[Section], above: Location = ()) -> Iterator[tuple[Location, FieldInfo]]:
    """Every key that is no section, with its path."""
    for name, field in section.model_fields.items():
        if inner := _section(field):
            yield from _keys(inner, (*above, name))
        else:
            yield (*above, name), field


def _section(field: FieldInfo | None) -> type[Section] | None:
    annotation = field.annotation if field else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _is_secret(key: FieldInfo) -> bool:
    return key.annotation == Secret


def _dotted(location: Location) -> str:
    return ".".join(location)


def _get(values: Any, location: Location) -> Any:
    for part in location:
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _put(values: dict[str, Any], location: Location, value: Any) -> None:
    """Sets a value; where a section on its path is no map, nothing: the section will be charged with that."""
    for part in location[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            return
    values[location[-1]] = value


def _take(values: dict[str, Any], location: Location) -> Any:
    section = _get(values, location[:-1])
    return section.pop(location[-1], None) if isinstance(section, dict) else None
