"""Reads a YAML file of a configuration, and says where it is wrong without quoting it."""

from collections.abc import Sequence
from importlib.resources.abc import Traversable
from typing import Any

import yaml


class ConfigError(ValueError):
    """The configuration cannot be used. ``problems`` has one line for each key at fault and holds no secret."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


def read_yaml(file: Traversable) -> dict[Any, Any]:
    """The map that the file holds. Raises ConfigError with the line at fault."""
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _UniqueKeyLoader)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
    except yaml.MarkedYAMLError as error:
        # Not the whole text of the error: it quotes the lines around, and one of them may hold a secret.
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError([f"{file}, line {line}: not valid YAML: {error.problem}"]) from None
    except yaml.YAMLError:
        raise ConfigError([f"{file}: not valid YAML: it contains characters that are not allowed"]) from None
    if not isinstance(values, dict):
        raise ConfigError([f"{file}: must be a map of keys"])
    return values


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses duplicate keys, of which YAML's own loader silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"duplicate key {key_node.value}", problem_mark=key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)
