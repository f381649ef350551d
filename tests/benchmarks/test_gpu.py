"""The GPU benchmark: its stages run, on the CPU at tiny sizes; operations are those by hand."""

from __future__ import annotations

import logging
from pathlib import Path

import gpu
import pytest
import torch
from gpu_stages import Sizes, Stage, operations_of, stages
from torch import nn

CPU = torch.device("cpu")
TINY = Sizes(
    backbone="resnet18",
    segmenter_backbone="resnet18",
    crop=80,
    segmenter_crop=33,
    batch=1,
    affinity_batch=1,
    segmenter_batch=1,
    image=(24, 32),
    images=1,
    grid=(6, 8),
    walks=2,
    steps=1,
)


def test_every_stage_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function: function)
    with caplog.at_level(logging.INFO):
        for build in stages(TINY, CPU, tmp_path):
            gpu.run_stage(build, CPU, 100)
    lines = [record.getMessage() for record in caplog.records]
    assert [text.split("  ")[0] for text in lines] == [
        "classifier step, not compiled",
        "classifier step, compiled",
        "affinity step, not compiled",
        "affinity step, compiled",
        "segmenter step, not compiled",
        "segmenter step, compiled",
        "export, float32",
        "export, bfloat16",
        "prediction, float32",
        "prediction, bfloat16",
        "random walk, 1 at a time",
        "random walk, 2 at a time",
    ]
    for text in lines:
        assert ("of the peak" in text) == ("step" in text or "bfloat16" in text)
        assert "images/s" in text


def test_operations_by_hand() -> None:
    layer, images = nn.Conv2d(3, 4, 5, padding=2, bias=False), torch.rand(2, 3, 8, 8)
    forward = 2 * (3 * 5 * 5) * (4 * 8 * 8) * 2
    assert operations_of(lambda: layer(images)) == forward
    assert operations_of(torch.inference_mode()(lambda: layer(images))) == forward
    assert operations_of(lambda: layer(images).sum().backward()) == 2 * forward  # of the weights


def test_line_of_a_stage() -> None:
    stage = Stage("export, bfloat16", lambda: None, 4, 1, 10**12)
    found = gpu.Measured(images_per_second=20.0, teraflops=5.0, gibibytes=1.5)
    assert gpu.line(stage, found, 10).endswith("1.50 GiB     5.0 TFLOP/s  50.0% of the peak")
    assert gpu.line(stage, found, None).endswith("1.50 GiB     5.0 TFLOP/s")


def test_calls_are_timed_after_a_warm_up() -> None:
    calls = []
    found = gpu.measure(Stage("work", lambda: calls.append(0), 3, 8, 0), CPU)
    assert len(calls) == 11
    assert found.images_per_second > 0
    assert found.teraflops == found.gibibytes == 0


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    (record,) = caplog.records
    assert "no CUDA device is visible" in record.getMessage()
