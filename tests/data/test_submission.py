"""The archive for VOC's server: what is written passes, and broken archives are refused."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from small_set import small_index

from protoseg.data.index import DatasetIndex, write_index
from protoseg.data.palette import save_label_png, voc_palette
from protoseg.data.submission import (
    FOLDER,
    SubmissionError,
    check_submission,
    pixel_values,
    write_submission,
)
from protoseg.storage import write_labels

SCRIPT = Path(__file__).resolve().parents[2] / "workflow_scripts" / "make_submission.py"
SIZES = {"2008_000001": (12, 17), "2008_000002": (9, 9)}
FIRST = f"{FOLDER}/2008_000001.png"


def labels() -> dict[str, NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return {id_: random.integers(0, 21, size).astype(np.uint8) for id_, size in SIZES.items()}


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path, "r:gz") as archive:
        streams = {name: archive.extractfile(name) for name in archive.getnames()}
        return {name: stream.read() for name, stream in streams.items() if stream}


def pack(path: Path, files: list[tuple[str, bytes]], mode: str = "w:gz") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


def indexed(label: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    image = Image.frombytes("P", label.shape[::-1], label.tobytes())
    image.putpalette(palette.tobytes())
    return encoded(image)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "submission.tgz"
    write_submission(path, labels().items())
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(SubmissionError) as caught:
        check_submission(path, SIZES)
    assert all(line in str(caught.value) for line in caught.value.problems[:20])
    return caught.value.problems


def test_the_written_archive_passes(archive: Path) -> None:
    check_submission(archive, SIZES)
    assert archive.read_bytes()[:2] == b"\x1f\x8b"
    files = contents(archive)
    assert sorted(files) == [f"{FOLDER}/{id_}.png" for id_ in SIZES]
    for id_, label in labels().items():
        with Image.open(io.BytesIO(files[f"{FOLDER}/{id_}.png"])) as image:
            assert image.mode == "P"
            assert image.size == label.shape[::-1]
            np.testing.assert_array_equal(np.array(image), label)
            np.testing.assert_array_equal(np.array(image.convert("RGB")), voc_palette()[label])


def test_equal_labels_give_equal_bytes(archive: Path, tmp_path: Path) -> None:
    write_submission(tmp_path / "again.tgz", labels().items())
    assert (tmp_path / "again.tgz").read_bytes() == archive.read_bytes()


def test_plain_tar_and_truncated_files_are_refused(archive: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.tgz"
    plain.write_bytes(gzip.decompress(archive.read_bytes()))
    assert problems(plain) == ["not gzipped; pack it as .tgz, not as plain tar"]
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    assert any("not a whole gzipped tar" in line for line in problems(archive))
    archive.write_bytes(gzip.compress(b"no tar"))
    assert any("not a whole gzipped tar" in line for line in problems(archive))
    archive.write_bytes(b"")
    assert "not gzipped" in problems(archive)[0]


def test_missing_surplus_and_doubled_files_are_refused(archive: Path) -> None:
    files = contents(archive)
    (first, one), (second, two) = sorted(files.items())
    pack(archive, [(first, one), (first, one), (f"{FOLDER}/2008_000009.png", two)])
    assert problems(archive) == [
        f"{second}: missing",
        f"{FOLDER}/2008_000009.png: not on the test list",
        f"{first}: there 2 times",
    ]
    elsewhere = FOLDER.replace("comp6", "comp5")
    pack(archive, [(first, one), (second.replace(FOLDER, elsewhere), two)])
    assert len(problems(archive)) == 2
    pack(archive, [(f"./{first}", one), (f"./{second}", two)])
    check_submission(archive, SIZES)


def colours(label: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(voc_palette()[label])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda label: encoded(colours(label)), "mode RGB; it must be indexed"),
        (lambda label: encoded(Image.fromarray(label)), "mode L; it must be indexed"),
        (
            lambda label: encoded(colours(label).convert("P", palette=Image.Palette.ADAPTIVE)),
            "another palette than VOC's",
        ),
        (lambda label: indexed(label, voc_palette()[:20]), "another palette than VOC's"),
        (lambda label: indexed(label[:-1], voc_palette()), "17x11, its image is 17x12"),
        (lambda label: indexed(label.T.copy(), voc_palette()), "12x17, its image is 17x12"),
        (
            lambda label: indexed(np.where(label == 3, 255, label).astype(np.uint8), voc_palette()),
            "value 255; classes end at 20",
        ),
        (lambda label: indexed(label + np.uint8(1), voc_palette()), "value 21; classes end at 20"),
        (lambda label: encoded(colours(label), "JPEG"), "not a readable PNG"),
        (lambda label: indexed(label, voc_palette())[:100], "not a readable PNG"),
    ],
)
def test_files_that_the_server_refuses(
    archive: Path, make: Callable[[NDArray[np.uint8]], bytes], expected: str
) -> None:
    files = contents(archive)
    files[FIRST] = make(labels()["2008_000001"])
    pack(archive, list(files.items()))
    (problem,) = problems(archive)
    assert problem.startswith(f"{FIRST}: {expected}")


def test_many_problems_are_cut_short(archive: Path) -> None:
    sizes = {f"id{number}": (1, 1) for number in range(30)}
    with pytest.raises(SubmissionError, match="and 12 more") as caught:
        check_submission(archive, sizes)
    assert len(caught.value.problems) == 32


def command(folder: Path, index: DatasetIndex, found: dict[str, NDArray[np.uint8]]) -> str:
    write_index(index, folder)
    write_labels(folder / "test.h5", index.class_names, "f", found.items())
    options = ["--index", str(folder), "--list", "val", "--labels", str(folder / "test.h5")]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options, "--output", str(folder / "submission.tgz")],
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr
    return done.stderr if done.returncode else ""


def test_command_undoes_a_subset_of_the_classes(tmp_path: Path) -> None:
    plain = small_index(tmp_path)
    values = {0: 0, 8: 1, 12: 2, 10: 3, 5: 255, 255: 255}  # class ids of a subset, others ignored
    parts = (plain.name, plain.root, plain.classes, values, plain.records.values(), plain.lists)
    index = DatasetIndex(*parts)
    assert pixel_values(index)[:5].tolist() == [0, 8, 12, 10, 255]
    ids = index.ids("val")
    found = {id_: np.full(index[id_].size, 2, np.uint8) for id_ in ids}
    assert command(tmp_path, index, found) == ""
    files = contents(tmp_path / "submission.tgz")
    assert sorted(files) == [f"{FOLDER}/{id_}.png" for id_ in ids]
    for content in files.values():
        assert (np.array(Image.open(io.BytesIO(content))) == 12).all()
    wrong = found | {ids[0]: found[ids[0]][1:]}
    assert f"{ids[0]}.png: 32x23, its image is 32x24" in command(tmp_path, index, wrong)


def test_a_saved_label_is_what_the_server_takes(tmp_path: Path) -> None:
    save_label_png(tmp_path / "label.png", labels()["2008_000001"])
    content = (tmp_path / "label.png").read_bytes()
    assert content == indexed(labels()["2008_000001"], voc_palette())
