"""Checkpoints to resume from, and final weights.

A checkpoint holds everything that the rest of the training depends on; it is written to a temporary
name, flushed and renamed, so a killed job leaves the previous one. A checkpoint of other settings,
code or data is refused, never silently continued.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from protoseg.data.index import DatasetIndex
from protoseg.errors import InputError
from protoseg.settings.stage_file import write_atomically

LOG = logging.getLogger(__name__)


class CheckpointMismatchError(InputError):
    """A checkpoint that belongs to other settings, code or data."""


def training_fingerprint(
    settings: str, code: str, index: DatasetIndex, ids: Sequence[str], files: Iterable[Path] = ()
) -> str:
    """`settings-code-data`: what a training depends on, so that a checkpoint is not of another one.

    Args:
        settings, code: digests. ids: images that it sees; their labels and sizes count, the folder
            that they lie in does not.
        files: what it reads besides, such as label maps and initial weights.
    """
    data = hashlib.sha256()
    for image_id in ids:
        data.update(repr((image_id, index[image_id].labels, index[image_id].size)).encode())
    for path in files:
        with path.open("rb") as stream:
            data.update(hashlib.file_digest(stream, "sha256").digest())
    return f"{settings}-{code}-{data.hexdigest()[:16]}"


def files_among(*weights: str) -> list[Path]:
    """The values of settings such as `weights` and `init` that are files."""
    return [path for path in map(Path, weights) if path.is_file()]


def save(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` atomically; equal tensors give equal bytes."""
    buffer = io.BytesIO()  # torch.save names the archive after the file, a buffer has no name
    torch.save(content, buffer)
    write_atomically(path, buffer.getvalue())


def load_checkpoint(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The checkpoint to resume from, or None where there is none.

    Raises:
        CheckpointMismatchError: it was written under another ``fingerprint``.
    """
    if not path.is_file():
        return None
    content = _load(path, "delete it to train from the start")
    if content["fingerprint"] != fingerprint:
        raise CheckpointMismatchError(
            f"checkpoint {path} was written with other settings, code or data (digests "
            f"{content['fingerprint']}, now {fingerprint}); delete it to train from the start"
        )
    LOG.info("resuming from %s after epoch %d", path, content["epoch"])
    return dict(content)


def save_weights(path: Path, network: torch.nn.Module, about: dict[str, Any]) -> None:
    """Final weights with ``about``: what is needed to build the network again, and provenance."""
    state = {key: value.detach().cpu() for key, value in network.state_dict().items()}
    save(path, {"state_dict": state, "about": about})


def save_history(path: Path, history: pd.DataFrame, checkpoint: Path) -> None:
    """Write the history, the last result of a training, then remove the checkpoint.

    In this order a job that dies while it writes loses nothing.
    """
    write_atomically(path, history.to_csv(index=False).encode())
    checkpoint.unlink(missing_ok=True)


def load_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """State dict and `about` of a file of `save_weights`."""
    if not path.is_file():
        raise InputError(f"weights {path} do not exist; rerun the stage that trains them")
    content = _load(path, "rerun the rule that trains it (snakemake -R)")
    return content["state_dict"], content["about"]


def _load(path: Path, cure: str) -> dict[str, Any]:
    """Content of a file of `save`; raises InputError with the ``cure`` where it is damaged."""
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise InputError(f"{path} is damaged or no file of protoseg; {cure}") from error
