"""Result files: localization maps and label maps in HDF5, one data set per image id.

Written to a temporary name and renamed when complete; equal content gives equal bytes. Readers open
lazily, once per process, and check schema version, kind and ids. File attributes: `schema_version`,
`kind`, `class_names` (background first), `fingerprint` of the settings.

`labels`: uint8 [H, W], class ids, 255 unknown. `scores`: a segmenter's logits, laid out as `maps`.
`maps`: float32 [n, P], the n maps of all scales one after the other, P = sum of h_s * w_s;
attributes `classes` [n] (0 is background), `grids` [S, 2] and the image's `size` [2]. They are
fused on reading by `localization.fusion.fuse_scales`.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from protoseg.errors import InputError

SCHEMA_VERSION = 1
RERUN = {"maps": "export_maps", "scores": "predict", "labels": "the rule that makes it"}


@dataclass(frozen=True)
class ScaleMaps:
    """Maps of one image. scales: per scale [n, h, w] float32; classes: [n]; size: (H, W)."""

    scales: tuple[NDArray[np.float32], ...]
    classes: NDArray[np.int64]
    size: tuple[int, int]


class ResultWriter:
    """Writes images of one kind into an open file."""

    def __init__(self, file: h5py.File) -> None:
        self.file = file

    def write_label(self, image_id: str, label: NDArray[np.uint8]) -> None:
        """Label map [H, W] uint8, compressed."""
        self.file.create_dataset(image_id, data=label, compression="gzip", compression_opts=4)

    def write_maps(self, image_id: str, maps: ScaleMaps) -> None:
        n = len(maps.classes)  # 0 for the CAMs of an image without labels
        flat = np.concatenate(
            [scale.reshape(n, math.prod(scale.shape[1:])) for scale in maps.scales], 1
        )
        dataset = self.file.create_dataset(image_id, data=flat.astype(np.float32))
        dataset.attrs["classes"] = np.asarray(maps.classes, np.int64)
        dataset.attrs["grids"] = np.array([scale.shape[1:] for scale in maps.scales], np.int64)
        dataset.attrs["size"] = np.asarray(maps.size, np.int64)


@contextmanager
def write_results(
    path: Path, kind: str, class_names: Sequence[str], fingerprint: str
) -> Iterator[ResultWriter]:
    """Open ``path`` for writing under a temporary name; renamed on success, removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs["schema_version"] = SCHEMA_VERSION
            file.attrs["kind"] = kind
            file.attrs["class_names"] = list(class_names)
            file.attrs["fingerprint"] = fingerprint
            yield ResultWriter(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_labels(
    path: Path,
    class_names: Sequence[str],
    fingerprint: str,
    labels: Iterable[tuple[str, NDArray[np.uint8]]],
) -> None:
    """Write a whole file of label maps, pairs of id and [H, W] uint8."""
    with write_results(path, "labels", class_names, fingerprint) as writer:
        for image_id, label in labels:
            writer.write_label(image_id, label)


class ResultReader:
    """Lazy reader of result files that hold different ids, such as `scored.h5` and `rest.h5`.

    Safe to hand to loader processes before its first read.

    Raises:
        InputError: no such file, another kind or schema version, or an id that no file holds.
    """

    def __init__(self, paths: Sequence[Path], kind: str) -> None:
        self.paths, self.kind = list(paths), kind
        self._files: list[h5py.File] = []
        self._process = 0

    def __getstate__(self) -> dict[str, object]:
        return {"paths": self.paths, "kind": self.kind, "_files": [], "_process": 0}

    @property
    def files(self) -> list[h5py.File]:
        if self._process != os.getpid():  # HDF5 handles do not survive a fork
            self._files = [self._open(path) for path in self.paths]
            self._process = os.getpid()
        return self._files

    def _open(self, path: Path) -> h5py.File:
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error}); rerun the rule that makes it"
            ) from error
        found = (file.attrs.get("kind"), file.attrs.get("schema_version"))
        if found != (self.kind, SCHEMA_VERSION):
            raise InputError(
                f"{path} holds {found[0]} in version {found[1]}, not {self.kind} in version "
                f"{SCHEMA_VERSION}; rerun the rule that makes it"
            )
        return file

    @property
    def class_names(self) -> list[str]:
        return [str(name) for name in self.files[0].attrs["class_names"]]

    @property
    def fingerprint(self) -> str:
        return str(self.files[0].attrs["fingerprint"])

    def ids(self) -> list[str]:
        """All ids, sorted within each file."""
        return [image_id for file in self.files for image_id in file]

    def check_ids(self, ids: Sequence[str], list_name: str) -> None:
        """Raise InputError that says how many ids of the list are missing, and the first."""
        present = set(self.ids())
        missing = [image_id for image_id in ids if image_id not in present]
        if missing:
            where = " and ".join(map(str, self.paths))
            raise InputError(
                f"{where} lacks {len(missing)} ids of {list_name!r} (first: {missing[0]}); "
                f"rerun {RERUN[self.kind]}"
            )

    def dataset(self, image_id: str) -> h5py.Dataset:
        """The raw data set of one image."""
        name = image_id.encode()
        for file in self.files:
            if file.id.links.exists(name):
                return h5py.Dataset(h5py.h5d.open(file.id, name))  # half the time of file[image_id]
        self.check_ids([image_id], "the requested ids")
        raise AssertionError("unreachable")

    def _content(self, image_id: str, dataset: h5py.Dataset) -> NDArray[Any]:
        try:
            return np.asarray(dataset[()])
        except OSError as error:
            where = " and ".join(map(str, self.paths))
            raise InputError(
                f"{where}: {image_id} is damaged ({error}); rerun {RERUN[self.kind]}"
            ) from error

    def label(self, image_id: str) -> NDArray[np.uint8]:
        """Label map [H, W] uint8."""
        return np.asarray(self._content(image_id, self.dataset(image_id)), np.uint8)

    def maps(self, image_id: str) -> ScaleMaps:
        """Maps of one image, per scale."""
        dataset = self.dataset(image_id)
        flat, grids = self._content(image_id, dataset), dataset.attrs["grids"].tolist()
        starts = itertools.accumulate((h * w for h, w in grids), initial=0)
        scales = tuple(
            flat[:, start : start + h * w].reshape(len(flat), h, w)
            for start, (h, w) in zip(starts, grids, strict=False)
        )
        height, width = dataset.attrs["size"].tolist()
        classes = np.asarray(dataset.attrs["classes"], np.int64)
        return ScaleMaps(scales, classes, (height, width))


def merge_results(parts: Sequence[Path], output: Path, kind: str) -> None:
    """Join shards that hold different ids into one file, sorted: their number changes no byte.

    Raises:
        InputError: shards of different classes or settings.
    """
    reader = ResultReader(parts, kind)
    names, fingerprint = reader.class_names, reader.fingerprint
    for file, part in zip(reader.files, parts, strict=True):
        if (list(file.attrs["class_names"]), file.attrs["fingerprint"]) != (names, fingerprint):
            raise InputError(f"{part} and {parts[0]} come from different settings")
    found = sorted(
        (image_id, number) for number, file in enumerate(reader.files) for image_id in file
    )
    for (image_id, number), (following, other) in itertools.pairwise(found):
        if image_id == following:
            raise InputError(f"{parts[number]} and {parts[other]} both hold {image_id}")
    last = {number: image_id for image_id, number in found}
    with write_results(output, kind, names, fingerprint) as writer:
        for image_id, number in found:
            file, name = reader.files[number], image_id.encode()
            # h5py.Group.copy takes 4 times as long.
            h5py.h5o.copy(file.id, name, writer.file.id, name)
            if last[number] == image_id:
                file.close()  # HDF5 keeps 8 MB for every open shard
    for file in reader.files:
        file.close()


def shard_of(ids: Sequence[str], shard: str) -> list[str]:
    """Contiguous part of ``ids`` for a shard named `i-of-n`, i from 1."""
    number, _, count = shard.partition("-of-")
    bounds = np.linspace(0, len(ids), int(count) + 1).astype(int)
    return list(ids[bounds[int(number) - 1] : bounds[int(number)]])
