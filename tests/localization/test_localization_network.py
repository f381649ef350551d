"""The network of stage 1: shapes, the hierarchical feature, and what learns from which loss."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from protoseg.backbones.backbone import MobileNetV2
from protoseg.localization.cam import EPSILON
from protoseg.localization.method import training_losses
from protoseg.localization.network import LocalizationNetwork
from protoseg.settings.classifier import ClassifierSettings

SIPE = ClassifierSettings(prototypes="image")
SIDES = (4, 4, 6, 6)


def network_of(sides: tuple[int, ...] = SIDES, frozen_stages: int = 0) -> LocalizationNetwork:
    torch.manual_seed(0)
    return LocalizationNetwork(MobileNetV2(16, frozen_stages, "frozen", width=0.1), 3, sides)


def losses_of(network: LocalizationNetwork, settings: ClassifierSettings) -> dict[str, Tensor]:
    torch.manual_seed(1)
    images, label = torch.randn(2, 3, 64, 64), torch.tensor([[1.0, 0, 1], [0, 1, 0]])
    box = torch.tensor([[0, 64, 0, 64], [0, 50, 3, 64]])
    return training_losses(network(images), label, box, (64, 64), settings)


def test_shapes() -> None:
    features = network_of()(torch.rand(2, 3, 64, 96))
    assert features.logits.shape == (2, 3, 4, 6)
    assert features.semantic.shape == (2, 1280, 4, 6)
    assert features.hierarchical is not None
    assert features.hierarchical.shape == (2, sum(SIDES), 4, 6)
    assert features.by_name("semantic") is features.semantic
    assert features.by_name("hierarchical") is features.hierarchical


def test_without_sides_there_is_no_hierarchical_feature() -> None:
    features = network_of(())(torch.rand(1, 3, 32, 32))
    assert features.hierarchical is None
    with pytest.raises(ValueError, match="no hierarchical feature"):
        features.by_name("hierarchical")


def test_hierarchical_feature_is_the_resized_unit_sides() -> None:
    network = network_of().eval()
    stages = network.backbone(torch.randn(1, 3, 64, 64))
    parts = []
    for layer, branch in zip(stages[1:], network.side, strict=True):
        side = branch(layer)
        side = side / (side.square().sum(1, keepdim=True).sqrt() + EPSILON)
        parts.append(functional.interpolate(side, stages[3].shape[-2:], mode="bilinear"))
    found = network.hierarchical_feature(stages[1:])
    torch.testing.assert_close(found, torch.cat(parts, 1), atol=1e-6, rtol=1e-5)


def test_batch_equals_single_images() -> None:
    network = network_of().eval()
    images = torch.randn(2, 3, 48, 64)
    whole = network(images)
    for i in range(2):
        single = network(images[i : i + 1])
        for found, expected in (
            (whole.logits, single.logits),
            (whole.semantic, single.semantic),
            (whole.hierarchical, single.hierarchical),
        ):
            torch.testing.assert_close(found[i : i + 1], expected, atol=1e-5, rtol=1e-4)


def test_sides_send_nothing_to_the_backbone() -> None:
    network = network_of()
    features = network(torch.randn(1, 3, 64, 64))
    assert features.hierarchical is not None
    features.hierarchical.sum().backward()
    assert all(parameter.grad is None for parameter in network.backbone.parameters())
    assert all(parameter.grad is not None for parameter in network.side.parameters())


def test_sides_learn_from_the_consistency_alone() -> None:
    network = network_of()
    losses_of(network, SIPE)["classification"].backward()
    assert all(parameter.grad is None for parameter in network.side.parameters())
    losses_of(network, SIPE)["consistency"].backward()
    gradients = [parameter.grad for parameter in network.side.parameters()]
    assert all(gradient is not None and gradient.count_nonzero() for gradient in gradients)


def test_consistency_reaches_the_backbone_through_the_cam() -> None:
    network = network_of()
    losses_of(network, SIPE)["consistency"].backward()
    assert network.classifier.weight.grad is not None
    assert (network.classifier.weight.grad != 0).any()


def test_named_losses_of_the_methods() -> None:
    network = network_of()
    assert set(losses_of(network, ClassifierSettings())) == {"classification", "total"}
    assert set(losses_of(network, replace(SIPE, consistency=False))) == {"classification", "total"}
    losses = losses_of(network, replace(SIPE, consistency_weight=2.0))
    torch.testing.assert_close(losses["total"], losses["classification"] + losses["consistency"])
    single = losses_of(network, SIPE)
    torch.testing.assert_close(losses["consistency"], 2 * single["consistency"])


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": "argmax"},
        {"seeds": "threshold"},
        {"structure_feature": "hierarchical"},
        {"prototype_feature": "semantic"},
        {"background_prototype": False},
        {"background_scale": 0.5},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_ablation_trains_and_differs(change: dict[str, object]) -> None:
    network = network_of()
    settings = replace(SIPE, **change)  # type: ignore[arg-type]
    changed, published = losses_of(network, settings), losses_of(network, SIPE)
    assert torch.isfinite(changed["total"])
    assert changed["consistency"] != published["consistency"]
    changed["total"].backward()
    assert all(
        torch.isfinite(parameter.grad).all()
        for parameter in network.parameters()
        if parameter.grad is not None
    )
