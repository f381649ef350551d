"""Reading and normalising images: uint8 RGB [H, W, 3] -> float32 [3, H, W]."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB in [0, 1]
STD = (0.229, 0.224, 0.225)


def read_image(path: Path) -> Image.Image:
    """RGB image, fully decoded (grey-scale files become RGB); errors name the file."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise OSError(f"image {path} cannot be read ({error}); rerun index_dataset") from error


def normalize(pixels: NDArray[np.uint8]) -> Tensor:
    """[H, W, 3] uint8 -> [3, H, W] float32: division by 255, ImageNet mean and deviation."""
    tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1).float() / 255.0
    return (tensor - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
