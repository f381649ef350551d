"""Both branches, inference post-processing and optimiser against golden/irn_network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN, golden_files
from numpy.typing import NDArray
from torch import Tensor

from protoseg.affinity.network import AffinityNetwork
from protoseg.affinity.walk import edge_probability, grid_size

HEADS = golden_files("irn_network", "heads_*.npz")
POSTPROCESS = golden_files("irn_network", "inference_postprocess*.npz")
TRACES = golden_files("irn_network", "optimizer_trace*.npz")
DTYPES = pytest.mark.parametrize(
    ("suffix", "dtype", "atol"),
    [("f64", torch.float64, 1e-10), ("f32", torch.float32, 5e-6)],
    ids=["float64", "float32"],
)
STRIDES = (4, 4, 8, 16, 16)
Golden = dict[str, NDArray]


def read(file: Path) -> Golden:
    with np.load(file) as archive:
        return dict(archive)


def parameter_names() -> dict[str, str]:
    """Names in the golden file -> names in the network."""
    names = {"edge_out_conv": "edge.out", "disp_out_conv": "displacement.out"}
    for branch, ours in (("edge", "edge"), ("disp", "displacement")):
        for stage in range(5):
            for layer in ("conv", "norm"):
                theirs = f"{branch}_stage{stage + 1}_{layer}"
                names[theirs] = f"{ours}.stages.{stage}.{layer}"
    for theirs, ours in (("fuse345", "fuse_deep"), ("fuse_all", "fuse_all")):
        for layer in ("conv", "norm"):
            names[f"disp_{theirs}_{layer}"] = f"displacement.{ours}.{layer}"
    return names


def load_network(weights: Golden, dtype: torch.dtype) -> AffinityNetwork:
    """The network with the golden weights; every array of the file is used and every key filled."""
    widths = [weights[f"edge_stage{n}_conv_weight_int8"].shape[1] for n in range(1, 6)]
    network = AffinityNetwork(widths, STRIDES, displacement=True).to(dtype)
    state = {"displacement_mean": torch.from_numpy(weights["disp_mean"])}
    for theirs, ours in parameter_names().items():
        if f"{theirs}_weight_int8" in weights:
            scaled = weights[f"{theirs}_weight_int8"] * weights[f"{theirs}_weight_scale"]
            state[f"{ours}.weight"] = torch.from_numpy(scaled)[:, :, None, None]
        else:
            state[f"{ours}.weight"] = torch.from_numpy(weights[f"{theirs}_weight"])
            groups = network.get_submodule(ours).num_groups
            assert groups == weights[f"{theirs}_groups"], ours
        if f"{theirs}_bias" in weights:
            state[f"{ours}.bias"] = torch.from_numpy(weights[f"{theirs}_bias"])
    network.load_state_dict(state)
    return network


def stage_outputs(golden: Golden, dtype: torch.dtype) -> list[Tensor]:
    scale = float(golden["feature_scale"])
    return [torch.from_numpy(golden[f"x{n}_int8"]).to(dtype) * scale for n in range(1, 6)]


def close(found: Tensor, expected: NDArray, atol: float) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("file", HEADS)
@DTYPES
def test_heads(file: Path, suffix: str, dtype: torch.dtype, atol: float) -> None:
    golden = read(file)
    network = load_network(read(file.parent / "branch_weights.npz"), dtype)
    stages = stage_outputs(golden, dtype)
    for mode in ("train", "eval"):
        edge, displacement = network.train(mode == "train")(stages)
        close(edge, golden[f"edge_logit_{suffix}"], atol)
        assert displacement is not None
        close(displacement, golden[f"displacement_{mode}_{suffix}"], atol)


@pytest.mark.parametrize("file", HEADS)
def test_gradients(file: Path) -> None:
    golden = read(file)
    network = load_network(read(file.parent / "branch_weights.npz"), torch.float64).train()
    edge, displacement = network(stage_outputs(golden, torch.float64))
    (0.5 * edge.square().sum() + 0.5 * displacement.square().sum()).backward()
    names = [name for name in golden if name.startswith("grad_")]
    assert names
    for name in names:
        layer = name.removeprefix("grad_").removesuffix("_weight_f64")
        found = network.get_parameter(f"{parameter_names()[layer]}.weight").grad
        assert found is not None
        scale = max(1.0, np.abs(golden[name]).max())
        close(found.reshape(golden[name].shape), golden[name], 1e-10 * scale)


@pytest.mark.parametrize("file", POSTPROCESS)
def test_inference_postprocess(file: Path) -> None:
    """The displacement field has no use here; it is cut alike, which the sizes show."""
    golden = read(file)
    height, width = (int(side) for side in golden["image_size"])
    grid = grid_size((height, width))
    edge = edge_probability(torch.from_numpy(golden["edge_logit_pair"]), grid)
    close(edge[None], golden["edge"], 5e-6)
    cut = golden["displacement_pair"][0, :, : grid[0], : grid[1]]
    assert np.array_equal(cut, golden["displacement"])


@pytest.mark.parametrize("file", TRACES)
@pytest.mark.parametrize(
    ("suffix", "dtype", "rtol"),
    [("f64", torch.float64, 1e-12), ("f32", torch.float32, 5e-6)],
    ids=["float64", "float32"],
)
def test_optimizer_trace(file: Path, suffix: str, dtype: torch.dtype, rtol: float) -> None:
    """Plain SGD with momentum 1e-4; 0.9 is the power of the schedule alone."""
    golden = read(file)
    max_step = int(golden["max_step"])
    groups = [
        {"params": [torch.from_numpy(golden[f"{name}_param_start"]).to(dtype).requires_grad_()]}
        for name in ("edge", "disp")
    ]
    optimizer = torch.optim.SGD(
        groups,
        lr=1.0,
        momentum=float(golden["momentum_really_used"]),
        weight_decay=float(golden["weight_decay"]),
    )
    for step, rates in enumerate(golden["lr_used"]):
        # published: after the last step the rate stays where it was
        if step < max_step:
            factor = (1 - step / max_step) ** 0.9
            for group, base in zip(optimizer.param_groups, golden["base_lr"], strict=True):
                group["lr"] = float(base) * factor
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(list(rates))
        for name, group in zip(("edge", "disp"), optimizer.param_groups, strict=True):
            group["params"][0].grad = torch.from_numpy(golden[f"{name}_grads"][step]).to(dtype)
        optimizer.step()
        for name, group in zip(("edge", "disp"), optimizer.param_groups, strict=True):
            expected = golden[f"{name}_param_after_{suffix}"][step]
            found = group["params"][0].detach().numpy()
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("file", golden_files("irn_network", "*.npz"))
def test_every_file_of_the_topic_is_used(file: Path) -> None:
    used = {parameter.values[0] for parameter in [*HEADS, *POSTPROCESS, *TRACES]}
    assert file in used or file == GOLDEN / "irn_network" / "branch_weights.npz"
