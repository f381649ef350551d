"""How a setting is declared, and what JSON schema follows from the declarations.

A settings class is a frozen dataclass whose fields come from `setting`: the default, one plain
sentence, and the limits. The JSON schema, the documentation and the typed object have this one
source. Imports nothing outside the standard library.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

SCALARS = {int: "integer", float: "number", str: "string", bool: "boolean"}


def setting(default: Any, text: str, **limits: Any) -> Any:
    """Field of a settings class.

    Args:
        default: value where a configuration names none; a list becomes a tuple.
        text: what it does, its unit, and where the default comes from (paper or code).
        limits: JSON schema keywords such as ``minimum``, ``enum``, ``minItems``.
    """
    default = tuple(default) if isinstance(default, list) else default
    return dataclasses.field(default=default, metadata={"text": text, "limits": limits})


def field_schema(field: dataclasses.Field[Any], hint: Any) -> dict[str, Any]:
    """JSON schema of one field from its type hint and limits."""
    limits = dict(field.metadata["limits"])
    origin = typing.get_origin(hint)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        items = {"type": SCALARS[item]} | limits.pop("items", {})
        schema: dict[str, Any] = {"type": "array", "items": items}
    elif origin in (types.UnionType, typing.Union):
        names = [SCALARS[arg] for arg in typing.get_args(hint) if arg is not type(None)]
        schema = {"type": [*names, "null"]}
    else:
        schema = {"type": SCALARS[hint]}
    default = list(field.default) if isinstance(field.default, tuple) else field.default
    return schema | limits | {"default": default, "description": field.metadata["text"]}


def stage_schema(settings: type) -> dict[str, Any]:
    """JSON schema of a settings class: an object without unknown keys."""
    hints = typing.get_type_hints(settings)
    properties = {
        field.name: field_schema(field, hints[field.name]) for field in dataclasses.fields(settings)
    }
    return {"type": "object", "additionalProperties": False, "properties": properties}


def from_mapping(settings: type, values: dict[str, Any]) -> Any:
    """Frozen settings object from validated values; lists become tuples, ints become floats.

    Raises:
        TypeError: a value that no field is for.
    """
    hints = typing.get_type_hints(settings)
    converted = {}
    for name, value in values.items():
        if isinstance(value, list):
            item = typing.get_args(hints[name])[0]
            value = tuple(item(entry) for entry in value)
        elif hints.get(name) is float:
            value = float(value)
        converted[name] = value
    return settings(**converted)
