"""AE-SIPE against the authors' outputs: golden/ae_sipe on the stage outputs of golden/features.

Tolerances as the folder's README suggests: 1e-5 for float32 maps, 1e-6 for losses, 1e-4 relative
for gradients, seeds exact away from near ties. What `golden/sipe` has too is compared as there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

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
from torch import Tensor

from protoseg.data.images import normalize
from protoseg.localization.cam import class_activation_maps, normalize_by_maximum
from protoseg.localization.fusion import fuse_scales
from protoseg.localization.method import (
    localization_maps,
    merge_mirror,
    refined_prototype_cam,
    training_losses,
)
from protoseg.localization.network import LocalizationNetwork
from protoseg.localization.pamr import pamr
from protoseg.localization.prototypes import prototype_maps, seed_prototypes
from protoseg.localization.refinement import normalize_maps, quarter_image, refine_maps
from protoseg.localization.seeds import make_seeds, one_hot_argmax, structure_similarity
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.maps import MapsSettings

AE_SIPE = ClassifierSettings(
    prototypes="image", structure_feature="hierarchical", refinement=("pamr", "prototypes")
)
MAPS = MapsSettings(normalize_scales=True)
TRAIN = golden_files("ae_sipe", "*_train.npz")


def images_of(case: dict[str, Any], count: int = 2) -> Tensor:
    """The network's input: the image and its mirror, normalised."""
    pixels = case["image"]
    return torch.stack([normalize(pixels), normalize(pixels[:, ::-1])])[:count]


def summed_prototypes(feature: Tensor, seeds: Tensor) -> Tensor:
    """Prototypes at the published scale: sums over seeds divided by the size of the grid."""
    share = seeds.flatten(2).mean(2, keepdim=True)
    return seed_prototypes(feature, seeds) * share


def batched(expected: Any, name: str) -> Tensor:
    """An array of an inference file with a batch dimension, one of a training file as it is."""
    array = torch.from_numpy(expected[name]).float()
    return array if expected["cam"].ndim == 4 else array[None]


def assert_margins(scores: Tensor, expected: Tensor) -> None:
    best, second = scores.topk(2, dim=1).values.unbind(1)
    close(best - second, expected)


def assert_first_maps(similarity: Tensor, keep: Tensor, feature: Tensor, expected: Any) -> Tensor:
    """Check everything up to the first IS-CAM, and return it."""
    close(similarity, batched(expected, "similarity"))
    assert_margins(similarity, batched(expected, "seed_margin"))
    seeds = one_hot_argmax(similarity) * keep
    assert_seeds(seeds, batched(expected, "seeds").numpy(), expected["seed_margin"])
    close(summed_prototypes(feature, seeds), batched(expected, "prototypes_first"))
    first = prototype_maps(feature, seed_prototypes(feature, seeds))
    close(first, batched(expected, "is_cam_first"))
    return first


def assert_refinement(first: Tensor, feature: Tensor, images: Tensor, expected: Any) -> None:
    """Check every step from the first IS-CAM to the normalised last one."""
    image = quarter_image(images)
    close(image, batched(expected, "pamr_image"), atol=1e-6)
    close(pamr(image, first), batched(expected, "pamr_output"))
    grid = refine_maps(first, feature, images, ("pamr",))
    close(grid, batched(expected, "pamr_grid"))
    assert_margins(grid, batched(expected, "ae_seed_margin"))
    seeds = one_hot_argmax(grid)
    assert_seeds(seeds, batched(expected, "ae_seeds").numpy(), expected["ae_seed_margin"])
    close(summed_prototypes(feature, seeds), batched(expected, "prototypes"))
    last = refine_maps(first, feature, images, AE_SIPE.refinement)
    close(last, batched(expected, "is_cam_raw"))
    close(normalize_maps(last, "maximum"), batched(expected, "is_cam"))


@pytest.mark.parametrize("file", TRAIN)
def test_training_forward(file: Path) -> None:
    expected, case = dict(np.load(file)), case_of(file)
    features = network_of(case).heads(stages_of(case))
    close(features.logits, expected["cam_logits"], atol=2e-5)
    close(features.logits.mean((2, 3)), expected["score"])
    keep = keep_of(case, (features.logits.shape[2], features.logits.shape[3]))
    close(keep, expected["valid_mask"])
    cam = class_activation_maps(features.logits)
    close(cam, expected["cam"])
    close(cam[:, :1], expected["background"])
    close(cam * keep, expected["cam_masked"])
    assert features.hierarchical is not None
    feature = features.hierarchical.detach()
    similarity = structure_similarity(cam * keep, feature, AE_SIPE.background_factor)
    first = assert_first_maps(similarity.detach(), keep, feature, expected)
    images = images_of(case)
    assert_refinement(first, feature, images, expected)
    last = refined_prototype_cam([cam * keep], features, keep, AE_SIPE, AE_SIPE, images)
    normalized = normalize_maps(last, AE_SIPE.refinement_normalization)
    close(normalized, expected["is_cam"])
    close(normalize_by_maximum(normalized), expected["is_cam_norm"])


def gradients_of(
    case: dict[str, Any], part: str
) -> tuple[dict[str, Tensor], dict[str, Tensor | None]]:
    """Losses, and the gradient of one of them by the golden names of weights and stage outputs."""
    network: LocalizationNetwork = network_of(case)
    stages = stages_of(case)
    for layer in stages[1:]:
        layer.requires_grad_()
    label = torch.from_numpy(case["label"])
    losses = training_losses(
        network.heads(stages), label, valid_box(case), image_size(case), AE_SIPE, images_of(case)
    )
    losses[part].backward()
    weights = [layer.weight for layer in (network.classifier, *network.side)]
    sides = [f"side{number}" for number in range(1, len(weights))]
    layers = [f"features_layer{number}" for number in range(1, len(stages))]
    named = zip(["classifier", *sides, *layers], [*weights, *stages[1:]], strict=True)
    return losses, {name: tensor.grad for name, tensor in named}


@pytest.mark.parametrize("file", TRAIN)
@pytest.mark.parametrize(
    ("part", "suffix", "none"),
    [
        ("total", "", "grad_none"),
        ("classification", "_cls", "grad_none_cls_only"),
        ("consistency", "_gsc", "grad_none_gsc_only"),
    ],
)
def test_losses_and_gradients(file: Path, part: str, suffix: str, none: str) -> None:
    expected, case = dict(np.load(file)), case_of(file)
    losses, gradients = gradients_of(case, part)
    close(losses[part], expected[f"loss{suffix or '_total'}"], atol=1e-6)
    assert {name for name, gradient in gradients.items() if gradient is None} == set(expected[none])
    stored = re.compile(rf"grad_({'|'.join(gradients)}){suffix}(_rows|_ch16)?")
    matches = [match for key in expected if (match := stored.fullmatch(key))]
    assert matches
    for match in matches:
        gradient, reference = gradients[match[1]], torch.from_numpy(expected[match[0]])
        assert gradient is not None
        found = {"_rows": gradient[::16], "_ch16": gradient[:, ::16]}.get(match[2], gradient)
        assert (found.reshape(reference.shape) - reference).norm() <= 1e-4 * reference.norm()
    if part == "total":
        for name, norm in zip(expected["grad_norm_names"], expected["grad_norms"], strict=True):
            gradient = gradients[str(name)]
            assert gradient is not None
            assert float(gradient.double().norm()) == pytest.approx(norm, rel=1e-4)


@pytest.mark.parametrize("file", golden_files("ae_sipe", "*_infer*.npz"))
def test_inference(file: Path) -> None:
    expected, case = dict(np.load(file)), case_of(file)
    with torch.no_grad():
        features = merge_mirror(network_of(case).heads(stages_of(case)))
    close(features.logits[0], expected["cam_logits"], atol=2e-5)
    cam = class_activation_maps(features.logits)
    close(cam[0], expected["cam"])
    close(cam[0, :1], expected["background"])
    assert features.hierarchical is not None
    similarity = structure_similarity(cam, features.hierarchical, MAPS.background_factor)
    clear = torch.from_numpy(expected["seed_margin"] > 1e-5)
    winners = torch.from_numpy(expected["seeds_unmasked_class"])
    assert (similarity[0].argmax(0) == winners)[clear].all()
    present = torch.from_numpy(expected["label_with_bg"])
    keep = present[None, :, None, None]
    first = assert_first_maps(similarity, keep, features.hierarchical, expected)
    image = images_of(case, 1)
    assert_refinement(first, features.hierarchical, image, expected)
    maps = localization_maps(features, present[1:], AE_SIPE, MAPS, "prototypes", image)
    close(maps, expected["is_cam"])


@pytest.mark.parametrize("file", golden_files("ae_sipe", "*_validate.npz"))
def test_validation(file: Path) -> None:
    expected, case = dict(np.load(file)), case_of(file)
    with torch.no_grad():
        features = network_of(case).heads(stages_of(case, slice(0, 1)))
    close(features.logits.mean((2, 3)), expected["score"])
    label = torch.from_numpy(case["label"][:1])
    keep = torch.cat([torch.ones(1, 1), label], 1)[:, :, None, None]
    cam = class_activation_maps(features.logits) * keep
    close(cam, expected["cam_masked"])
    assert features.hierarchical is not None
    feature, images = features.hierarchical, images_of(case, 1)
    seeds = make_seeds(cam, feature, "structure", AE_SIPE.background_factor, 0.0) * keep
    close(seeds, expected["seeds"])
    first = prototype_maps(feature, seed_prototypes(feature, seeds))
    refined = one_hot_argmax(refine_maps(first, feature, images, ("pamr",)))
    close(summed_prototypes(feature, refined), expected["prototypes"])
    maps = refined_prototype_cam([cam], features, keep, AE_SIPE, AE_SIPE, images)
    normalized = normalize_maps(maps, "maximum")
    close(normalized, expected["is_cam"])
    prediction = fuse_scales([normalized[0]], image_size(case)).argmax(0)
    clear = torch.from_numpy(expected["prediction_margin"] > 1e-3)
    assert (prediction == torch.from_numpy(expected["prediction"]))[clear].all()
