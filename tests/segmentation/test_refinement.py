"""From images through stored scores to predictions, before and after the denseCRF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from small_set import small_index
from torch import Tensor, nn

from protoseg.data.images import normalize, read_image
from protoseg.data.index import DatasetIndex
from protoseg.errors import InputError
from protoseg.pseudo_labels.crf import CRFParameters, refine_probabilities
from protoseg.segmentation.deeplab import DeepLabV2
from protoseg.segmentation.inference import predict
from protoseg.segmentation.predict import predict_probabilities
from protoseg.segmentation.refinement import refine_predictions
from protoseg.settings.predictions import PredictionsCRFSettings, PredictionsSettings
from protoseg.storage import ResultReader, ScaleMaps, write_results

CRF = PredictionsCRFSettings(3, 3.0, 3.0, 32.0, 13.0, 10.0)
PARAMETERS = CRFParameters(3.0, 3.0, 32.0, 13.0, 10.0, 3)
CPU = torch.device("cpu")


class Strided(nn.Module):
    """One convolution of stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5, stride=4, padding=2)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.conv(images)]


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    return small_index(tmp_path)


def network() -> DeepLabV2:
    """Four classes, of which the last one is never likely."""
    torch.manual_seed(0)
    model = DeepLabV2(Strided(), 4, 4, (1,), ()).eval()
    for parameter in model.head.parameters():
        nn.init.normal_(parameter)
    nn.init.constant_(model.head.get_parameter("branches.0.bias")[3:], -50.0)
    return model


def stored(folder: Path, index: DatasetIndex, settings: PredictionsSettings) -> ResultReader:
    """Scores of the list `val` in a result file; its labels are checked on the way."""
    path, model = folder / "scores.h5", network()
    with write_results(path, "scores", index.class_names, "f") as writer:
        for image_id, label, scores in predict(model, index, index.ids("val"), settings, CPU):
            assert (label == probabilities_of(index, image_id, settings).argmax(0)).all()
            assert scores.classes.tolist() == [0, 1, 2]
            assert scores.size == label.shape == index[image_id].size
            writer.write_maps(image_id, scores)
    return ResultReader([path], "scores")


def probabilities_of(
    index: DatasetIndex, image_id: str, settings: PredictionsSettings
) -> np.ndarray:
    image = normalize(np.asarray(read_image(index[image_id].image)))
    size = index[image_id].size
    arguments = (
        image,
        settings.scales,
        settings.flip,
        size,
        settings.fusion,
        settings.align_corners,
    )
    return predict_probabilities(network().single_scale, *arguments).numpy()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fusion", "flip", "corners"),
    [("max", False, False), ("mean", True, False), ("mean", False, True)],
)
def test_stored_scores_give_the_crf_of_full_probabilities(
    tmp_path: Path, index: DatasetIndex, fusion: str, flip: bool, corners: bool
) -> None:
    settings = PredictionsSettings((0.5, 1.0), flip, fusion, corners)
    reader = stored(tmp_path, index, settings)
    found = dict(refine_predictions(index, index.ids("val"), reader, CRF, corners, workers=0))
    assert list(found) == index.ids("val")
    changed = False
    for image_id, label in found.items():
        probabilities = probabilities_of(index, image_id, settings)
        pixels = np.asarray(read_image(index[image_id].image))
        np.testing.assert_array_equal(
            label, refine_probabilities(pixels, probabilities, PARAMETERS)
        )
        changed |= bool((label != probabilities.argmax(0)).any())
    assert changed


def test_classes_keep_their_numbers(tmp_path: Path, index: DatasetIndex) -> None:
    image_id = index.ids("val")[0]
    scores = np.zeros((2, 3, 4), np.float32)
    scores[1] = 20.0
    path = tmp_path / "scores.h5"
    with write_results(path, "scores", index.class_names, "f") as writer:
        writer.write_maps(image_id, ScaleMaps((scores,), np.array([0, 3]), index[image_id].size))
    reader = ResultReader([path], "scores")
    ((_, label),) = refine_predictions(index, [image_id], reader, CRF, False, workers=0)
    assert (label == 3).all()
    with pytest.raises(InputError, match=r"lacks 1 ids of .* rerun predict"):
        list(refine_predictions(index, index.ids("val"), reader, CRF, False, workers=0))
