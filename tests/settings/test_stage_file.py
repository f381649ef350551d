"""Settings files: equal settings give equal bytes, and a file of another stage is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from protoseg.errors import InputError
from protoseg.settings.maps import MapsSettings
from protoseg.settings.stage_file import (
    fingerprint,
    read_stage_settings,
    settings_text,
    write_atomically,
)


def test_equal_settings_give_equal_text_and_fingerprint() -> None:
    one, other = {"seed": 1, "maps": {"a": 1, "b": 2}}, {"maps": {"b": 2, "a": 1}, "seed": 1}
    assert settings_text(one) == settings_text(other)
    assert fingerprint(one) == fingerprint(other)
    assert fingerprint(one) != fingerprint(one | {"seed": 2})


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    values = {"seed": 3, "maps": {"scales": [1, 2], "seeds": "argmax"}}
    path.write_text(settings_text(values))
    settings, seed, digest = read_stage_settings(path, "maps", MapsSettings)
    assert settings == MapsSettings(scales=(1.0, 2.0), seeds="argmax")
    assert (seed, digest) == (3, fingerprint(values))
    with pytest.raises(
        InputError, match=r"settings\.json is not a settings file of stage affinity"
    ):
        read_stage_settings(path, "affinity", MapsSettings)


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
