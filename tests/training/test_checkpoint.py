"""Checkpoints and weights: atomic, equal bytes, no code in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from protoseg.data.index import DatasetIndex, ImageRecord
from protoseg.errors import InputError
from protoseg.training.checkpoint import (
    load_checkpoint,
    load_weights,
    save,
    save_weights,
    training_fingerprint,
)


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "absent.pt", "abc") is None


def test_failed_save_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.pt"
    save(path, {"fingerprint": "abc", "epoch": 1})

    def full_disk(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        save(path, {"fingerprint": "abc", "epoch": 2})
    found = load_checkpoint(path, "abc")
    assert found is not None
    assert found["epoch"] == 1


def test_weights_round_trip_with_equal_bytes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    about = {"settings": {"epochs": 3}, "classes": ["cat"]}
    for name in ("one.pt", "two.pt"):
        save_weights(tmp_path / name, network, about)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "two.pt").read_bytes()
    state, found = load_weights(tmp_path / "one.pt")
    assert found == about
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.pt do not exist; rerun the stage"):
        load_weights(tmp_path / "absent.pt")


def test_fingerprint_of_a_training_knows_its_data(tmp_path: Path) -> None:
    def of(*labels: int, ids: Sequence[str] = ("a", "b"), root: str = "x", text: str = "") -> str:
        records = [ImageRecord(name, Path(root, name), None, (4, 6), labels) for name in "abc"]
        index = DatasetIndex("made up", Path(root), ["cat", "dog"], {}, records, {})
        (tmp_path / "labels.h5").write_text(text)
        return training_fingerprint("settings", "code", index, ids, [tmp_path / "labels.h5"])

    before = of(1)
    assert before.startswith("settings-code-")
    assert of(1, root="moved") == before
    others = [of(2), of(1, ids=("a", "c")), of(1, ids=("a",)), of(1, text="other labels")]
    assert len({before, *others}) == 5


def test_damaged_files_are_named_with_their_cure(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    save_weights(path, torch.nn.Linear(2, 2), {})
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"weights.pt is damaged .*; rerun the rule that trains"):
        load_weights(path)
    with pytest.raises(InputError, match=r"weights.pt is damaged .*; delete it to train from the"):
        load_checkpoint(path, "f")
