"""Result files: round trip, equal bytes, atomic writing, messages, shards, processes."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from protoseg.errors import InputError
from protoseg.storage import ResultReader, ScaleMaps, merge_results, shard_of, write_results

NAMES = ["background", "cat", "dog"]


def label_of(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 3, (5 + number, 7), dtype=np.uint8)


def maps_of(number: int, classes: Sequence[int] = (0, 2)) -> ScaleMaps:
    random = np.random.default_rng(number)
    shapes = [(len(classes), 3, 4), (len(classes), 5, 2)]
    scales = tuple(random.random(shape, dtype=np.float32) for shape in shapes)
    return ScaleMaps(scales, np.array(classes), (30 + number, 41))


def write_labels(path: Path, ids: Sequence[str], fingerprint: str = "f") -> Path:
    with write_results(path, "labels", NAMES, fingerprint) as writer:
        for image_id in ids:
            writer.write_label(image_id, label_of(int(image_id)))
    return path


def test_labels_round_trip(tmp_path: Path) -> None:
    reader = ResultReader([write_labels(tmp_path / "a" / "labels.h5", ["2", "1"])], "labels")
    assert reader.ids() == ["1", "2"]
    assert (reader.class_names, reader.fingerprint) == (NAMES, "f")
    np.testing.assert_array_equal(reader.label("2"), label_of(2))
    assert reader.label("2").dtype == np.uint8


@pytest.mark.parametrize("classes", [(0, 2), (1,), ()])
def test_maps_round_trip(tmp_path: Path, classes: tuple[int, ...]) -> None:
    maps = maps_of(1, classes)
    with write_results(tmp_path / "maps.h5", "maps", NAMES, "f") as writer:
        writer.write_maps("1", maps)
    found = ResultReader([tmp_path / "maps.h5"], "maps").maps("1")
    assert (found.size, found.classes.tolist()) == (maps.size, list(classes))
    for scale, expected in zip(found.scales, maps.scales, strict=True):
        np.testing.assert_array_equal(scale, expected)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("one.h5", "two.h5"):
        with write_results(tmp_path / name, "maps", NAMES, "f") as writer:
            writer.write_maps("1", maps_of(1))
            writer.write_label("2", label_of(2))
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "labels.h5", ["1"])
    before = path.read_bytes()

    def interrupted() -> None:
        with write_results(path, "labels", NAMES, "f") as writer:
            writer.write_label("2", label_of(2))
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        interrupted()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_missing_ids_are_counted_and_named(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "labels.h5", ["1", "2"])
    reader = ResultReader([path], "labels")
    reader.check_ids(["1", "2"], "train")
    message = r"labels\.h5 lacks 2 ids of 'train' \(first: 7\); rerun"
    with pytest.raises(InputError, match=message):
        reader.check_ids(["1", "7", "8"], "train")
    with pytest.raises(InputError, match=r"lacks 1 ids .*first: 9"):
        reader.label("9")


def test_missing_maps_name_their_rule(tmp_path: Path) -> None:
    with write_results(tmp_path / "maps.h5", "maps", NAMES, "f"):
        pass
    with pytest.raises(InputError, match="rerun export_maps"):
        ResultReader([tmp_path / "maps.h5"], "maps").check_ids(["1"], "train")


def test_wrong_kind_version_and_files(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "labels.h5", ["1"])
    with pytest.raises(InputError, match="holds labels in version 1, not maps"):
        ResultReader([path], "maps").ids()
    with h5py.File(path, "a") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(InputError, match="in version 99, not labels in version 1; rerun"):
        ResultReader([path], "labels").ids()
    (tmp_path / "text.h5").write_text("no HDF5")
    for name in ("text.h5", "absent.h5"):
        with pytest.raises(InputError, match=rf"{name} cannot be read"):
            ResultReader([tmp_path / name], "labels").ids()


def test_several_files_read_as_one(tmp_path: Path) -> None:
    paths = [write_labels(tmp_path / f"{n}.h5", [n]) for n in ("2", "1")]
    reader = ResultReader(paths, "labels")
    assert reader.ids() == ["2", "1"]
    np.testing.assert_array_equal(reader.label("1"), label_of(1))
    with pytest.raises(InputError, match=r"2\.h5 and .*1\.h5 lacks"):
        reader.check_ids(["3"], "train")


@pytest.mark.parametrize("kind", ["labels", "maps"])
def test_merged_shards_equal_one_file(tmp_path: Path, kind: str) -> None:
    ids = [str(number) for number in range(7)]

    def write(path: Path, chosen: Sequence[str]) -> Path:
        with write_results(path, kind, NAMES, "f") as writer:
            for image_id in chosen:
                if kind == "maps":
                    writer.write_maps(image_id, maps_of(int(image_id)))
                else:
                    writer.write_label(image_id, label_of(int(image_id)))
        return path

    shards = [write(tmp_path / f"{i}.h5", shard_of(ids, f"{i}-of-3")) for i in (1, 2, 3)]
    whole = ResultReader([write(tmp_path / "whole.h5", ids)], kind)
    merge_results(shards, tmp_path / "merged.h5", kind)
    merged = ResultReader([tmp_path / "merged.h5"], kind)
    assert merged.ids() == whole.ids() == ids
    for image_id in ids:
        found, expected = merged.dataset(image_id), whole.dataset(image_id)
        np.testing.assert_array_equal(found[()], expected[()])
        assert set(found.attrs) == set(expected.attrs)
        for key in found.attrs:
            np.testing.assert_array_equal(found.attrs[key], expected.attrs[key])
    merge_results(shards, tmp_path / "again.h5", kind)
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "merged.h5").read_bytes()


def test_number_of_shards_changes_no_byte(tmp_path: Path) -> None:
    ids = ["3", "1", "4", "0", "2"]
    for count in (1, 8):
        names = [f"{number}-of-{count}" for number in range(1, count + 1)]
        parts = [write_labels(tmp_path / f"{name}.h5", shard_of(ids, name)) for name in names]
        merge_results(parts, tmp_path / f"merged{count}.h5", "labels")
    assert (tmp_path / "merged8.h5").read_bytes() == (tmp_path / "merged1.h5").read_bytes()


def test_shards_of_different_settings_are_refused(tmp_path: Path) -> None:
    parts = [write_labels(tmp_path / f"{n}.h5", [n], fingerprint=n) for n in ("1", "2")]
    with pytest.raises(InputError, match="different settings"):
        merge_results(parts, tmp_path / "merged.h5", "labels")
    assert not (tmp_path / "merged.h5").exists()


@pytest.mark.parametrize(("length", "count"), [(0, 3), (2, 5), (10, 1), (10, 3), (11, 4)])
def test_shards_hold_every_id_once_in_order(length: int, count: int) -> None:
    ids = [str(number) for number in range(length)]
    shards = [shard_of(ids, f"{number}-of-{count}") for number in range(1, count + 1)]
    assert [image_id for shard in shards for image_id in shard] == ids
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_reader_survives_pickling_and_a_fork(tmp_path: Path) -> None:
    reader = ResultReader([write_labels(tmp_path / "labels.h5", ["1", "2"])], "labels")
    opened = reader.files
    copy = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(copy.label("2"), label_of(2))
    assert copy.files is not opened
    reader._process = -1  # as seen in a forked process
    np.testing.assert_array_equal(reader.label("1"), label_of(1))
    assert reader.files is not opened
    with get_context("spawn").Pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(reader.label, ("1",)), label_of(1))


def test_a_damaged_label_map_is_named(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "labels.h5", ["1", "2"])
    with h5py.File(path) as file:
        place = file["2"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(content)
    reader = ResultReader([path], "labels")
    assert reader.label("1").shape == label_of(1).shape
    with pytest.raises(InputError, match=r"labels.h5: 2 is damaged .*; rerun the rule"):
        reader.label("2")


def test_shards_of_one_image_are_refused(tmp_path: Path) -> None:
    parts = [write_labels(tmp_path / f"{n}.h5", ids) for n, ids in enumerate((["1", "2"], ["2"]))]
    with pytest.raises(InputError, match=r"0.h5 and .*1.h5 both hold 2"):
        merge_results(parts, tmp_path / "all.h5", "labels")
    assert not (tmp_path / "all.h5").exists()
