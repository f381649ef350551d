"""The fit loop: a resume, loader processes and a second run change nothing; errors are clear."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from protoseg.errors import InputError
from protoseg.training.checkpoint import CheckpointMismatchError, save_history
from protoseg.training.fit import Batch, FitSettings, LossFunction, fit, split, step_on
from protoseg.training.schedule import poly_factor

CPU = torch.device("cpu")
SETTINGS = FitSettings(
    batch_size=4,
    epochs=4,
    max_steps=None,
    clip_norm=1.0,
    schedule_block=1,
    seed=3,
    workers=0,
    fingerprint="abc",
    unused_parameters=False,
)


class Noise(Dataset[Batch]):
    """14 images; an item is a function of (epoch, position)."""

    def __len__(self) -> int:
        return 14

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, position = key
        generator = torch.Generator().manual_seed(100 * epoch + position)
        image = torch.rand(3, 6, 6, generator=generator)
        return {"image": image, "label": image.mean()}


def small_network() -> nn.Module:
    """Convolution, BatchNorm and dropout: weights, buffers and the random state all matter."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.3), nn.Conv2d(4, 1, 4))


def squared_error(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
    error = (network(batch["image"]).flatten() - batch["label"]).square().mean()
    return {"error": error, "total": 2.0 * error}


def train(
    checkpoint: Path, settings: FitSettings = SETTINGS, loss: LossFunction = squared_error
) -> tuple[dict[str, Tensor], pd.DataFrame]:
    network = small_network()
    common = {"weight_decay": 1e-3, "momentum": 0.9}
    first, rest = list(network[0].parameters()), list(network[1:].parameters())  # type: ignore[index]
    groups = [{"params": first, "lr": 0.1, **common}, {"params": rest, "lr": 0.2, **common}]
    history = fit(network, groups, loss, Noise(), settings, CPU, checkpoint)
    return network.state_dict(), history


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert torch.equal(value, expected[key]), key


def failing_at(step: int) -> LossFunction:
    calls = 0

    def loss(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        if calls > step:
            raise KeyboardInterrupt
        return squared_error(network, batch)

    return loss


@pytest.mark.parametrize(
    ("step", "max_steps", "workers"),
    [(4, None, 0), (7, None, 0), (9, 10, 0), (7, 10, 0), (4, 10, 1)],
)
def test_resumed_equals_uninterrupted(
    tmp_path: Path, step: int, max_steps: int | None, workers: int
) -> None:
    settings = replace(SETTINGS, max_steps=max_steps, workers=workers)
    expected, history = train(tmp_path / "one.pt", settings)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "two.pt", settings, failing_at(step))
    assert (tmp_path / "two.pt").is_file()
    found, resumed = train(tmp_path / "two.pt", settings)
    assert_equal(found, expected)
    measured = ["seconds", "data_wait"]
    pd.testing.assert_frame_equal(resumed.drop(columns=measured), history.drop(columns=measured))


def test_interruption_in_the_first_epoch_starts_again(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "two.pt", loss=failing_at(2))
    assert not (tmp_path / "two.pt").exists()
    assert_equal(train(tmp_path / "two.pt")[0], train(tmp_path / "one.pt")[0])


def test_loader_processes_change_nothing(tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=2)
    expected, _ = train(tmp_path / "alone.pt", settings)
    found, _ = train(tmp_path / "workers.pt", replace(settings, workers=2))
    assert_equal(found, expected)


def test_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "c.pt", loss=failing_at(6))
    with pytest.raises(CheckpointMismatchError, match=r"c\.pt .*abc, now other\); delete it"):
        train(tmp_path / "c.pt", replace(SETTINGS, fingerprint="other"))
    assert (tmp_path / "c.pt").is_file()


def test_a_job_that_dies_after_the_last_epoch_trains_nothing_again(tmp_path: Path) -> None:
    expected, history = train(tmp_path / "c.pt")

    def never(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        raise AssertionError("trained again")

    found, again = train(tmp_path / "c.pt", loss=never)
    assert_equal(found, expected)
    pd.testing.assert_frame_equal(again, history)
    save_history(tmp_path / "history.csv", again, tmp_path / "c.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["history.csv"]


def test_history_has_a_row_per_epoch(tmp_path: Path) -> None:
    _, history = train(tmp_path / "c.pt")
    assert history["epoch"].tolist() == [1, 2, 3, 4]
    assert history["steps"].tolist() == [3, 3, 3, 3]  # the incomplete fourth batch is dropped
    assert history["total"].tolist() == pytest.approx((2 * history["error"]).tolist())
    rates = [0.1 * poly_factor(3 * epoch + 2, 12) for epoch in range(4)]
    assert history["learning_rate"].tolist() == pytest.approx(rates)
    assert history["data_wait"].between(0, 1).all()


def test_max_steps_end_within_an_epoch(tmp_path: Path) -> None:
    _, history = train(tmp_path / "c.pt", replace(SETTINGS, max_steps=7, epochs=1))
    assert history["steps"].tolist() == [3, 3, 1]
    assert history["learning_rate"].iloc[-1] == pytest.approx(0.1 * (1 / 7) ** 0.9)


def test_groups_keep_their_ratio_of_rates(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 1, 6, bias=False), nn.Conv2d(1, 1, 1, bias=False))
    common = {"weight_decay": 0.0, "momentum": 0.0}
    groups = [
        {"params": list(layer.parameters()), "lr": rate, **common}
        for layer, rate in zip(network, (0.0, 0.1), strict=True)
    ]
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fit(network, groups, squared_error, Noise(), SETTINGS, CPU, tmp_path / "c.pt")
    assert torch.equal(network.state_dict()["0.weight"], before["0.weight"])
    assert not torch.equal(network.state_dict()["1.weight"], before["1.weight"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_is_named(tmp_path: Path, value: float) -> None:
    calls = 0

    def loss(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        found = squared_error(network, batch)
        return found | {"odd": found["error"] * (value if calls == 5 else 1.0)}

    with pytest.raises(InputError, match="loss odd is not finite at step 1 of epoch 2"):
        train(tmp_path / "c.pt", loss=loss)


def test_gradients_are_clipped(tmp_path: Path) -> None:
    def steep(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"total": 1e6 * network(batch["image"]).mean()}

    network = nn.Conv2d(3, 1, 6)
    before = network.weight.detach().clone()
    groups = [{"params": list(network.parameters()), "lr": 0.1, "momentum": 0, "weight_decay": 0}]
    settings = replace(SETTINGS, max_steps=1, clip_norm=0.5)
    fit(network, groups, steep, Noise(), settings, CPU, tmp_path / "c.pt")
    assert 0 < float((network.weight.detach() - before).norm()) <= 0.05 + 1e-6


def test_too_few_images(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="14 training images are fewer than a batch of 16"):
        train(tmp_path / "c.pt", replace(SETTINGS, batch_size=16))


def test_every_epoch_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train(tmp_path / "c.pt", replace(SETTINGS, epochs=2))
    lines = [record.getMessage() for record in caplog.records if "epoch" in record.getMessage()]
    assert [line.split(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


def test_parts_of_a_batch() -> None:
    batch = {"image": torch.arange(5.0)[:, None], "label": torch.arange(5)}
    assert [part["label"].tolist() for part in split(batch, [3, 2])] == [[0, 1, 2], [3, 4]]
    assert [len(part["image"]) for part in split(batch, [2, 2, 1])] == [2, 2, 1]


def test_a_step_descends_the_mean_of_the_parts_losses() -> None:
    def masked_mean(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        errors = (network(batch["image"])[:, 0] - batch["label"]).square()
        error = errors[batch["label"] >= 0].mean()
        return {"error": error, "total": 3 * error}

    image = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    batch = {"image": image, "label": torch.tensor([1.0, -1, -1, 2, 3, 4])}
    networks = [nn.Linear(4, 1), nn.Linear(4, 1)]
    networks[1].load_state_dict(networks[0].state_dict())
    first, second = (
        masked_mean(networks[0], {name: value[half] for name, value in batch.items()})
        for half in (slice(0, 3), slice(3, 6))
    )
    ((first["total"] + second["total"]) / 2).backward()
    wanted = [p.detach() - 0.1 * p.grad for p in networks[0].parameters()]  # type: ignore[operator]
    optimizer = torch.optim.SGD(networks[1].parameters(), lr=0.1)
    losses = step_on(
        split(batch, [3, 3]), partial(masked_mean, networks[1]), networks[1], optimizer, clip_norm=0
    )
    torch.testing.assert_close([*networks[1].parameters()], [nn.Parameter(p) for p in wanted])
    assert losses["error"].item() == pytest.approx((first["error"] + second["error"]).item() / 2)
    assert not losses["total"].requires_grad
