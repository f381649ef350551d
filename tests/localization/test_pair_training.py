"""RPNet's losses of a batch: symmetry of pairs, further scales, regions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from protoseg.localization.network import Features, LocalizationNetwork
from protoseg.localization.pair_training import enhanced_logits, pair_foreground, pair_losses
from protoseg.localization.regions import region_features
from protoseg.localization.train import build_network
from protoseg.settings.classifier import ClassifierSettings

PAIRS = ClassifierSettings(
    prototypes="pairs", backbone="resnet18", pair_width=8, pair_drop=0.0, pair_mask=0.9
)
LABEL = torch.tensor([[1.0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 1]])


def case(settings: ClassifierSettings) -> tuple[LocalizationNetwork, Tensor]:
    torch.manual_seed(0)
    network = build_network(settings, 3, "random").eval()
    return network, torch.randn(4, 3, 64, 96)


def read(network: LocalizationNetwork, images: Tensor) -> Features:
    return network.heads(network.backbone(images))


def losses_of(
    network: LocalizationNetwork, images: Tensor, label: Tensor, settings: ClassifierSettings
) -> dict[str, Tensor]:
    features = region_features(network, images, label, settings.region_threshold, read)
    return pair_losses(network, features, images, label, settings, read)


@pytest.mark.parametrize("reading", ["pooled", "per_level"])
def test_exchanging_the_images_of_a_pair_exchanges_their_maps(reading: str) -> None:
    settings = replace(PAIRS, pair_reading=reading)
    network, images = case(settings)
    swapped = images[[1, 0, 3, 2]]
    found = enhanced_logits(network, read(network, images), settings)
    other = enhanced_logits(network, read(network, swapped), settings)
    torch.testing.assert_close(other, found[[1, 0, 3, 2]], atol=1e-6, rtol=1e-4)


def test_losses_do_not_depend_on_the_order_of_pairs_or_within_them() -> None:
    network, images = case(PAIRS)
    plain = losses_of(network, images, LABEL, PAIRS)
    for order in ([2, 3, 0, 1], [1, 0, 3, 2]):
        other = losses_of(network, images[order], LABEL[order], PAIRS)
        for name, value in plain.items():
            torch.testing.assert_close(other[name], value, atol=1e-6, rtol=1e-4)


def test_another_partner_changes_the_foreground_of_two_images_only() -> None:
    network, images = case(PAIRS)
    order = [0, 2, 1, 3]
    for number, equal in (("two", False), ("one", True)):
        settings = replace(PAIRS, pair_images=number)
        first, second = (read(network, batch).pair for batch in (images, images[order]))
        assert first is not None
        assert second is not None
        found = pair_foreground(first, settings)[order]
        assert torch.allclose(found, pair_foreground(second, settings), atol=1e-6) == equal


def test_further_scales_change_the_maps_and_send_no_gradient() -> None:
    settings = replace(PAIRS, pair_scales=(0.5, 2.0))
    network, images = case(settings)
    plain = losses_of(network, images, LABEL, PAIRS)
    scaled = losses_of(network, images, LABEL, settings)
    assert scaled["classification"] == plain["classification"]
    assert scaled["enhancement"] != plain["enhancement"]
    scaled["total"].backward()
    with torch.no_grad():
        assert not losses_of(network, images, LABEL, settings)["total"].requires_grad


def test_running_statistics_are_those_of_plain_passes() -> None:
    settings = replace(
        PAIRS, batch_norm="batch", pair_nonlocal="gaussian", pair_scales=(0.5,), frozen_stages=0
    )
    network, images = case(settings)
    alone = case(settings)[0].train()
    read(alone, images)
    losses_of(network.train(), images, LABEL, settings)
    expected = dict(alone.named_buffers())
    for name, buffer in network.named_buffers():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(buffer, expected[name]), name


def test_a_further_region_never_lowers_the_foreground() -> None:
    settings = replace(PAIRS, regions=2)
    network, images = case(settings)
    features = region_features(network, images, LABEL, settings.region_threshold, read)
    pairs = [region.pair for region in features.regions if region.pair is not None]
    assert len(pairs) == 2
    both = torch.stack([pair_foreground(pair, settings) for pair in pairs]).amax(0)
    assert (both >= pair_foreground(pairs[0], settings)).all()
    assert (both > pair_foreground(pairs[0], settings)).any()
    losses = pair_losses(network, features, images, LABEL, settings, read)
    assert set(losses) == {"classification", "enhancement", "classification_2", "total"}


def test_dropped_pixels_are_a_function_of_the_seed_of_torch() -> None:
    settings = replace(PAIRS, pair_drop=0.5)
    network, images = case(settings)
    totals = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        totals.append(losses_of(network, images, LABEL, settings)["enhancement"].item())
    assert totals[0] == totals[1] != totals[2]
