"""Backbone weights from the classifier of stage 1, for the stages after it."""

from __future__ import annotations

from pathlib import Path

from protoseg.backbones.base import Backbone
from protoseg.backbones.weights import load_checked
from protoseg.errors import InputError
from protoseg.training.checkpoint import load_weights

PREFIX = "backbone."


def classifier_backbone(backbone: Backbone, path: Path | None) -> None:
    """Load the backbone of a trained classifier's weights file into ``backbone``."""
    if path is None:
        raise InputError("weights: classifier needs the classifier's weights file, none was given")
    state, _ = load_weights(path)
    state = {key.removeprefix(PREFIX): v for key, v in state.items() if key.startswith(PREFIX)}
    load_checked(backbone, state, str(path))
