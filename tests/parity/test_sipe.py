"""SIPE against the authors' outputs: golden/sipe on the stage outputs of golden/features.

Tolerances as the folder's README suggests: 1e-5 for float32 maps, 1e-6 for losses, 1e-4 relative
for gradients, seeds exact away from near ties.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import golden_files
from golden_case import (
    assert_seeds,
    case_of,
    close,
    image_size,
    keep_of,
    network_of,
    stages_of,
    valid_box,
)
from torch import Tensor, nn

from protoseg.localization.cam import class_activation_maps
from protoseg.localization.fusion import fuse_scales, scaled_size
from protoseg.localization.method import merge_mirror, prototype_cam, training_losses
from protoseg.localization.network import Features
from protoseg.localization.prototypes import prototype_maps, seed_prototypes
from protoseg.localization.seeds import one_hot_argmax, structure_similarity
from protoseg.metrics import Confusion
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.maps import MapsSettings

SIPE = ClassifierSettings(prototypes="image")


@pytest.mark.parametrize("file", golden_files("sipe", "*_train.npz"))
def test_training_forward(file: Path) -> None:
    expected, case = np.load(file), case_of(file)
    features = network_of(case).heads(stages_of(case))
    close(features.logits, expected["cam_logits"], atol=2e-5, rtol=0)
    close(features.logits.mean((2, 3)), expected["score"])
    grid = (features.logits.shape[2], features.logits.shape[3])
    keep = keep_of(case, grid)
    close(keep, expected["valid_mask"])
    cam = class_activation_maps(features.logits)
    close(cam, expected["cam"])
    close(cam[:, :1], expected["background"])
    close(cam * keep, expected["cam_masked"])
    similarity = structure_similarity(cam * keep, features.semantic, 0.5)
    close(similarity, expected["similarity"])
    seeds = one_hot_argmax(similarity) * keep
    assert_seeds(seeds, expected["seeds"], expected["seed_margin"])
    assert features.hierarchical is not None
    if "hierarchical_feature" in expected:
        close(features.hierarchical, expected["hierarchical_feature"])
    prototypes = seed_prototypes(features.hierarchical, seeds)
    share = seeds.flatten(2).sum(2, keepdim=True) / (grid[0] * grid[1])
    close(prototypes * share, expected["prototypes"])
    close(prototype_maps(features.hierarchical, prototypes), expected["is_cam"])


@pytest.mark.parametrize("file", golden_files("sipe", "*_train.npz"))
def test_training_losses_and_gradients(file: Path) -> None:
    expected, case = np.load(file), case_of(file)
    network, stages = network_of(case), stages_of(case)
    for layer in stages[1:]:
        layer.requires_grad_()
    losses = training_losses(
        network.heads(stages),
        torch.from_numpy(case["label"]),
        valid_box(case),
        image_size(case),
        SIPE,
    )
    close(losses["classification"], expected["loss_cls"], atol=1e-6, rtol=0)
    close(losses["consistency"], expected["loss_gsc"], atol=1e-6, rtol=0)
    close(losses["total"], expected["loss_total"], atol=1e-6, rtol=0)
    losses["total"].backward()

    def same_gradient(found: Tensor | None, name: str) -> None:
        assert found is not None
        reference = torch.from_numpy(expected[name])
        assert (found.reshape(reference.shape) - reference).norm() <= 1e-4 * reference.norm()

    same_gradient(network.classifier.weight.grad, "grad_classifier")
    sides = [branch.weight.grad for branch in network.side]
    same_gradient(sides[0], "grad_side1")  # type: ignore[arg-type]
    same_gradient(sides[1], "grad_side2")  # type: ignore[arg-type]
    same_gradient(sides[2][::16], "grad_side3_rows")  # type: ignore[index]
    same_gradient(sides[3][::16], "grad_side4_rows")  # type: ignore[index]
    same_gradient(stages[4].grad[:, ::16], "grad_features_layer4_ch16")  # type: ignore[index]
    assert all(layer.grad is None for layer in stages[1:4])


@pytest.mark.parametrize("file", golden_files("sipe", "*_three_steps.npz"))
def test_three_optimiser_steps(file: Path) -> None:
    expected, case = np.load(file), case_of(file)
    network, stages = network_of(case), stages_of(case)
    parameters = [network.classifier.weight, *(branch.weight for branch in network.side)]
    optimizer = torch.optim.SGD(parameters, lr=1.0, momentum=SIPE.momentum, weight_decay=1e-4)  # type: ignore[arg-type]
    label = torch.from_numpy(case["label"])
    for step in range(3):
        losses = training_losses(
            network.heads(stages), label, valid_box(case), image_size(case), SIPE
        )
        close(losses["total"], expected[f"loss_step{step}"], atol=1e-5, rtol=0)
        optimizer.zero_grad()
        losses["total"].backward()
        norm = nn.utils.clip_grad_norm_(parameters, SIPE.clip_norm)  # type: ignore[arg-type]
        close(norm, expected[f"grad_norm_step{step}"], atol=0, rtol=1e-4)
        optimizer.param_groups[0]["lr"] = float(expected[f"lr_step{step}"])
        optimizer.step()
        if f"classifier_after_step{step}" in expected:
            weight, side = network.classifier.weight, network.side[0].weight
            close(
                weight[:, :, 0, 0], expected[f"classifier_after_step{step}"], atol=1e-5, rtol=1e-4
            )
            close(side[:, :, 0, 0], expected[f"side1_after_step{step}"], atol=1e-5, rtol=1e-4)  # type: ignore[index]


@pytest.mark.parametrize("file", golden_files("sipe", "*_infer*.npz"))
def test_inference(file: Path) -> None:
    expected, case = np.load(file), case_of(file)
    features = merge_mirror(network_of(case).heads(stages_of(case)))
    close(features.logits[0], expected["cam_logits"], atol=2e-5, rtol=0)
    cam = class_activation_maps(features.logits)
    close(cam[0], expected["cam"])
    assert features.hierarchical is not None
    similarity = structure_similarity(cam, features.hierarchical, 0.5)
    close(similarity[0], expected["similarity"])
    unmasked = one_hot_argmax(similarity)
    keep = torch.from_numpy(expected["label_with_bg"])[None, :, None, None]
    clear = torch.from_numpy(expected["seed_margin"] > 1e-5)
    winners = unmasked[0].argmax(0)
    assert (winners == torch.from_numpy(expected["seeds_unmasked_class"]))[clear].all()
    assert_seeds((unmasked * keep)[0], expected["seeds"], expected["seed_margin"])
    maps = prototype_cam(
        cam,
        features,
        keep,
        MapsSettings(),
        prototype_feature="hierarchical",
        background_prototype=True,
    )
    close(maps[0], expected["is_cam"])


@pytest.mark.parametrize("file", golden_files("sipe", "*_validate.npz"))
def test_validation(file: Path) -> None:
    expected, case = np.load(file), case_of(file)
    features = network_of(case).heads(stages_of(case, slice(0, 1)))
    close(features.logits.mean((2, 3)), expected["score"])
    label = torch.from_numpy(case["label"][:1])
    keep = torch.cat([torch.ones(1, 1), label], 1)[:, :, None, None]
    cam = class_activation_maps(features.logits) * keep
    close(cam, expected["cam_masked"])
    maps = prototype_cam(
        cam, features, keep, SIPE, prototype_feature="hierarchical", background_prototype=True
    )
    close(maps, expected["is_cam"])
    prediction = fuse_scales([maps[0]], image_size(case)).argmax(0)
    clear = torch.from_numpy(expected["prediction_margin"] > 1e-3)
    assert (prediction == torch.from_numpy(expected["prediction"]))[clear].all()


@pytest.mark.parametrize("file", golden_files("sipe", "fusion_*.npz"))
def test_fusion(file: Path) -> None:
    expected = np.load(file)
    keys = expected["keys"]
    scales = [
        torch.from_numpy(expected[f"is_cam_scale{i}"][keys]) for i in range(len(expected["scales"]))
    ]
    size = (int(expected["size"][0]), int(expected["size"][1]))
    fused = fuse_scales(scales, size)
    close(fused, expected["fused"])
    assert (keys[fused.argmax(0)] == expected["prediction"]).mean() > 0.9999
    fused[0] *= 0.8
    assert (keys[fused.argmax(0)] == expected["prediction_bg08"]).mean() > 0.9999
    for scale, wanted in zip(expected["scales"], expected["scaled_sizes"], strict=True):
        assert scaled_size(size, float(scale)) == tuple(wanted)


@pytest.mark.parametrize("file", golden_files("sipe", "eval.npz"))
def test_evaluation(file: Path) -> None:
    expected = np.load(file)
    confusion = Confusion(expected["confusion"].shape[0])
    for number in range(sum(name.startswith("mask") for name in expected)):
        confusion.update(expected[f"mask{number}"], expected[f"prediction{number}"])
    np.testing.assert_array_equal(confusion.matrix, expected["confusion"])
    for height, width, scale, *wanted in expected["scaled_size_table"]:
        assert scaled_size((int(height), int(width)), scale) == tuple(wanted)


@pytest.mark.parametrize("file", golden_files("features", "case_*.npz"))
def test_a_batch_equals_its_single_images(file: Path) -> None:
    case = dict(np.load(file))
    network = network_of(case)
    together = network.heads(stages_of(case))
    for number in range(2):
        alone: Features = network.heads(stages_of(case, slice(number, number + 1)))
        close(together.logits[number : number + 1], alone.logits.detach())
        for name in ("semantic", "hierarchical"):
            close(together.by_name(name)[number : number + 1], alone.by_name(name).detach())
