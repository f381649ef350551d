"""Configuration of a run through every stage that takes seconds: 20 drawn images of 64 pixels."""

from __future__ import annotations

from typing import Any

NETWORK = {"backbone": "mobilenet_v2", "batch_size": 8, "crop": 64}
DATASET: dict[str, Any] = {
    "name": "tiny",
    "kind": "demo",
    "classes": ["ring", "cross", "checker"],
    "demo_train_images": 20,
    "demo_val_images": 4,
    "demo_size": 64,
}
CLASSIFIER: dict[str, Any] = {
    **NETWORK,
    "weights": "random",
    "frozen_stages": 0,
    "batch_norm": "batch",
    "epochs": 1,
    "long_side": [64, 64],
}
DEFAULTS: dict[str, Any] = {
    "classifier": CLASSIFIER,
    "maps": {"scales": [1.0]},
    "affinity": {**NETWORK, "weights": "classifier", "epochs": 1, "radius": 3},
    "segmenter": {
        **NETWORK,
        "weights": "classifier",
        "batch_norm": "batch",
        "rates": [1],
        "train_scales": [],
        "iterations": 2,
    },
    "predictions": {"scales": [1.0]},
}
