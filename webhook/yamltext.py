"""YAML as people write it, read as strictly as JSON: one meaning, bounded depth, nothing executed, line and column in faults.

Its own file because the library weighs something, and most of the house never sees YAML.
"""

from typing import Any

import yaml

from webhook import limits
from webhook.parsing import Invalid, quote


class _StrictLoader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]  # chosen at run time
    """Plain YAML without duplicate keys, which two readers understand differently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key stands twice", node.start_mark)
        return mapping


# Times stay text, as Kubernetes reads them.
_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _StrictLoader.yaml_implicit_resolvers.items()
}


def read_yaml(data: bytes, what: str) -> list[object]:
    """Every document in `data`. Raises `Invalid` with line and column; `what` names the file."""
    try:
        _refuse_explosives(data, what)
        return list(yaml.load_all(data, _StrictLoader))
    except Invalid:
        raise
    except yaml.MarkedYAMLError as e:
        raise Invalid(f"{what}, {_place(e.problem_mark)}: {quote(e.problem)}") from e
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise Invalid(f"{what}: not YAML: {quote(e)}") from e


def _refuse_explosives(data: bytes, what: str) -> None:
    """Before anything is built: a few aliases can unpack to any size, and the library follows any depth (attack D-06)."""
    depth = 0
    for event in yaml.parse(data, _StrictLoader):
        if isinstance(event, yaml.AliasEvent):
            raise Invalid(f"{what}, {_place(event.start_mark)}: aliases (*name) are not accepted")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > limits.MAX_JSON_DEPTH:
            raise Invalid(f"{what}, {_place(event.start_mark)}: nested deeper than {limits.MAX_JSON_DEPTH}")


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
