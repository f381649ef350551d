"""Every golden file of the topics covered so far is read by some parity test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import GOLDEN

TOPICS = (
    "sipe",
    "ae_sipe",
    "pamr",
    "features",
    "irn_paths",
    "irn_affinity",
    "irn_network",
    "irn_walk",
    "crf",
    "deeplab",
    "metrics",
    "palette",
    "optim",
)
# read beside a file that a pattern finds
COMPANIONS = {
    "features": ["weights.npz"],
    "irn_network": ["branch_weights.npz"],
    "palette": ["coco_masks*.npz"],
}


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no {GOLDEN}; set PROTOSEG_GOLDEN")
@pytest.mark.parametrize("topic", TOPICS)
def test_every_file_is_read(topic: str) -> None:
    sources = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*.py"))
    patterns = re.findall(rf'golden_files\(\s*"{topic}",\s*"([^"]+)"', sources)
    patterns += COMPANIONS.get(topic, [])
    read = {file for pattern in patterns for file in (GOLDEN / topic).glob(pattern)}
    files = {file for file in (GOLDEN / topic).iterdir() if file.suffix in (".npz", ".json")}
    assert files - read == set()
