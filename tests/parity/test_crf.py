"""denseCRF against the original C++ library (golden/crf)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import golden_files
from numpy.typing import NDArray
from torch.nn import functional

from protoseg.pseudo_labels.crf import (
    CRFParameters,
    ImageCRF,
    hard_label_unary,
    refine_probabilities,
    soft_unary,
)
from protoseg.pseudo_labels.labels import argmax_with_background, pseudo_labels

HARD = CRFParameters(3, 3, 50, 5, 10, iterations=10)
SOFT = CRFParameters(1, 3, 67, 3, 4, iterations=10)
CONFIDENCE = 0.7
SHARE_OF_PIXELS = 1e-4
MARGIN = 5
CAFFE_MEAN_BGR = (104.008, 116.669, 122.675)

IMAGES = golden_files("crf", "image_*.npz")
MARGINALS = golden_files("crf", "marginals_*.npz")
Golden = dict[str, NDArray]


def read(file: Path) -> Golden:
    with np.load(file) as archive:
        return dict(archive)


def assert_labels(found: NDArray, expected: NDArray, margin: NDArray | None = None) -> None:
    differs = found != expected
    assert differs.mean() <= SHARE_OF_PIXELS
    if margin is not None:
        assert (margin[differs] <= MARGIN).all()


def foreground_maps(golden: Golden) -> NDArray[np.float32]:
    return golden["cam_u8"].astype(np.float32) / np.float32(255)


def maps_with_background(golden: Golden) -> NDArray[np.float32]:
    background = golden["bg_cam_u8"].astype(np.float32) / np.float32(255)
    return np.concatenate([background[None], foreground_maps(golden)])


def probabilities(golden: Golden) -> NDArray[np.float32]:
    logits = torch.from_numpy(golden["soft_logits_lowres"].astype(np.float32))[None]
    size = golden["image"].shape[:2]
    upsampled = functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return upsampled[0].softmax(dim=0).numpy()


def wrapped_image(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BGR minus the mean, cut to integers, modulo 256: dark pixels become bright."""
    centred = image[..., ::-1].astype(np.float32) - np.array(CAFFE_MEAN_BGR, np.float32)
    return centred.astype(np.int64).astype(np.uint8)


@pytest.mark.parametrize("file", IMAGES)
@pytest.mark.parametrize(("name", "score"), [("hard_fg30", 0.30), ("hard_bg05", 0.05)])
def test_hard_labels(file: Path, name: str, score: float) -> None:
    golden = read(file)
    n_labels = len(golden["keys"])
    local = argmax_with_background(foreground_maps(golden), golden["keys"][1:], score)
    np.testing.assert_array_equal(local, golden[name])
    crf = ImageCRF(golden["image"], n_labels, HARD)
    found = crf.labels(hard_label_unary(local, n_labels, CONFIDENCE))
    assert_labels(found, golden[f"{name}_crf"], golden[f"{name}_margin_u8"])


@pytest.mark.parametrize("file", IMAGES)
def test_hard_labels_of_the_full_class_list(file: Path) -> None:
    golden = read(file)
    n_labels = len(golden["soft_logits_lowres"])
    crf = ImageCRF(golden["image"], n_labels, HARD)
    found = crf.labels(hard_label_unary(golden["hard_21"], n_labels, CONFIDENCE))
    assert_labels(found, golden["hard_21_crf"])


@pytest.mark.parametrize("file", IMAGES)
def test_ir_labels_with_constant_backgrounds(file: Path) -> None:
    golden = read(file)
    scored, ir_label = pseudo_labels(
        golden["image"],
        foreground_maps(golden),
        golden["keys"][1:],
        background=0.30,
        ir_background=0.05,
        confidence=CONFIDENCE,
        parameters=HARD,
    )
    assert_labels(ir_label, golden["ir_label_irn"])
    foreground_pass = golden["keys"][golden["hard_fg30_crf"]]
    assert_labels(scored, foreground_pass, golden["hard_fg30_margin_u8"])


@pytest.mark.parametrize("file", IMAGES)
def test_ir_labels_with_a_background_map(file: Path) -> None:
    golden = read(file)
    _, ir_label = pseudo_labels(
        golden["image"],
        maps_with_background(golden),
        golden["keys"],
        background=1.0,
        ir_background=0.5,
        confidence=CONFIDENCE,
        parameters=HARD,
    )
    assert_labels(ir_label, golden["ir_label_sipe"])


@pytest.mark.parametrize("file", IMAGES)
def test_soft_labels(file: Path) -> None:
    golden = read(file)
    scores = probabilities(golden)
    before = refine_probabilities(golden["image"], scores, replace(SOFT, iterations=0))
    assert_labels(before, golden["soft_argmax_before"])
    found = refine_probabilities(golden["image"], scores, SOFT)
    assert_labels(found, golden["soft_crf"], golden["soft_crf_margin_u8"])


@pytest.mark.parametrize("file", IMAGES)
def test_soft_labels_on_the_published_wrapped_image(file: Path) -> None:
    golden = read(file)
    image = wrapped_image(golden["image"])
    if "soft_wrapped_image" in golden:
        np.testing.assert_array_equal(image, golden["soft_wrapped_image"])
    found = refine_probabilities(image, probabilities(golden), SOFT)
    assert_labels(found, golden["soft_crf_wrapped"])


@pytest.mark.parametrize("file", MARGINALS)
@pytest.mark.parametrize(("kind", "parameters"), [("hard", HARD), ("soft", SOFT)])
def test_marginals(file: Path, kind: str, parameters: CRFParameters) -> None:
    golden = read(file)
    if kind == "hard":
        unary = hard_label_unary(golden["hard_labels"], int(golden["n_labels"]), CONFIDENCE)
    else:
        unary = soft_unary(golden["soft_prob"])
    np.testing.assert_allclose(unary, golden[f"{kind}_unary"], atol=1e-6)
    prefix = f"{kind}_marginals_iter"
    names = [name for name in golden if name.startswith(prefix)]
    assert names
    for name in names:
        iterations = int(name.removeprefix(prefix))
        crf = ImageCRF(golden["image"], len(unary), replace(parameters, iterations=iterations))
        tolerance = 1e-5 if iterations <= 1 else 1e-3
        np.testing.assert_allclose(crf.marginals(unary), golden[name], rtol=0, atol=tolerance)


@pytest.mark.parametrize("file", MARGINALS)
@pytest.mark.parametrize(
    ("name", "left_out"),
    [("gauss_only", {"bilateral_weight": 0}), ("bilateral_only", {"gaussian_weight": 0})],
)
def test_one_kernel_alone(file: Path, name: str, left_out: dict[str, float]) -> None:
    golden = read(file)
    parameters = replace(HARD, iterations=1, **left_out)
    crf = ImageCRF(golden["image"], len(golden["soft_prob"]), parameters)
    found = crf.marginals(soft_unary(golden["soft_prob"]))
    np.testing.assert_allclose(found, golden[f"soft_{name}_iter1"], rtol=0, atol=1e-5)
