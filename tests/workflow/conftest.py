"""The tiny workflow after its first run, and copies of it to change."""

from __future__ import annotations

import copy
import re
import shutil

import pytest
from workflow.tiny_workflow import CONFIG, Workflow, copied_repository


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The tiny workflow after its first run."""
    workflow = copied_repository(tmp_path_factory.mktemp("workflow"))
    workflow.snakemake()
    return workflow


@pytest.fixture
def workflow(finished: Workflow, request: pytest.FixtureRequest) -> Workflow:
    """A copy of the finished workflow, with equal times, for one test to change."""
    folder = finished.folder.parent / re.sub(r"\W+", "_", request.node.name)
    shutil.copytree(finished.folder, folder)
    return Workflow(folder, copy.deepcopy(CONFIG))
