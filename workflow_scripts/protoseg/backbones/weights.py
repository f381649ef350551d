"""Initial weights of a backbone: a local file, torchvision's download, or random by name.

In: a backbone in the key names of its published weights, and the setting ``weights``. Out: the
same, loaded. Every key of the backbone must be in the file and the file may hold nothing else but a
classification head, so a wrong file never trains silently.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from protoseg.errors import InputError

HEAD_PREFIXES = ("fc.", "classifier.")  # ImageNet heads, which no stage here uses


class WeightsError(InputError):
    """A weights file that does not fit the network, or cannot be read."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """State dict of ``path`` without executing code from the file; raises WeightsError."""
    if not path.is_file():
        raise WeightsError(f"weights file {path} does not exist; set `weights` to a file that does")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"weights file {path} is damaged, or holds more than tensors ({type(error).__name__}); "
            "download it again"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"weights file {path} holds no state dict of tensors")
    return state


def load_checked(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load ``state`` into ``network``; missing, unexpected and misshapen keys are one error."""
    own = network.state_dict()
    state = {key: value for key, value in state.items() if not key.startswith(HEAD_PREFIXES)}
    counters = {key for key in own if key.endswith("num_batches_tracked")}  # absent in old files
    problems = [f"missing key {key}" for key in sorted(own.keys() - state.keys() - counters)]
    problems += [f"unexpected key {key}" for key in sorted(state.keys() - own.keys())]
    problems += [
        f"{key} has shape {tuple(state[key].shape)}, the network needs {tuple(own[key].shape)}"
        for key in sorted(own.keys() & state.keys())
        if own[key].shape != state[key].shape
    ]
    if problems:
        shown = "\n  ".join(problems[:10])
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise WeightsError(
            f"weights {source} do not fit {type(network).__name__} "
            f"({len(problems)} problems):\n  {shown}{more}"
        )
    network.load_state_dict(state, strict=False)


def load_initial_weights(network: nn.Module, weights: str, url: str) -> None:
    """Initialise ``network`` from ``weights``: ``random``, ``torchvision`` (``url``) or a path."""
    if weights == "random":
        return
    if weights == "torchvision":
        try:
            state = torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True)
        except OSError as error:
            raise WeightsError(
                f"torchvision's weights {url} could not be fetched ({error}); download them on a "
                "machine with a network and set `weights` to the file"
            ) from error
        load_checked(network, state, url)
        return
    load_checked(network, read_state_dict(Path(weights)), weights)
