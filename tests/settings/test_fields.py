"""From the declaration of a setting to its schema and its typed value."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, dataclass

import pytest

from protoseg.settings.fields import from_mapping, setting, stage_schema
from protoseg.settings.schema import STAGES, DatasetSettings
from protoseg.settings.validation import schema_problems


@dataclass(frozen=True)
class Example:
    """For the tests."""

    count: int = setting(3, "How many.", minimum=1)
    rates: tuple[float, ...] = setting([0.5, 1], "Rates.", items={"exclusiveMinimum": 0})
    limit: float | None = setting(None, "Limit or none.")


def test_schema_of_every_kind_of_field() -> None:
    schema = stage_schema(Example)
    assert schema["additionalProperties"] is False
    assert schema["properties"] == {
        "count": {"type": "integer", "minimum": 1, "default": 3, "description": "How many."},
        "rates": {
            "type": "array",
            "items": {"type": "number", "exclusiveMinimum": 0},
            "default": [0.5, 1],
            "description": "Rates.",
        },
        "limit": {"type": ["number", "null"], "default": None, "description": "Limit or none."},
    }


def test_schema_does_not_change_the_declaration() -> None:
    assert stage_schema(Example) == stage_schema(Example)


def test_typed_values() -> None:
    found = from_mapping(Example, {"rates": [1, 2], "limit": None})
    assert found == Example(3, (1.0, 2.0), None)
    assert all(isinstance(rate, float) for rate in found.rates)
    with pytest.raises(FrozenInstanceError):
        found.count = 4
    with pytest.raises(TypeError, match="colour"):
        from_mapping(Example, {"colour": 1})


@pytest.mark.parametrize("kind", [DatasetSettings, *STAGES.values()])
def test_defaults_are_valid_and_round_trip(kind: type) -> None:
    schema = stage_schema(kind)
    defaults = {key: value["default"] for key, value in schema["properties"].items()}
    assert schema_problems(defaults, schema, "x") == []
    assert asdict(from_mapping(kind, defaults)) == asdict(kind())
