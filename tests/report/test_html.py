"""The report: one file that needs no network, with every table, figure, time and version."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from protoseg.errors import InputError
from protoseg.report.html import benchmark_seconds, duration, render_report, write_report

VOID_TAGS = {"meta", "img", "br"}


class Page(HTMLParser):
    """Addresses, ids and text of a page; fails on tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += [values[key] or "" for key in ("src", "href") if key in values]
        self.ids += [values["id"] or ""] if "id" in values else []
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append(data.strip())


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "table.html").write_text('<figure id="table-x"><table></table></figure>')
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "curves.png")
    (tmp_path / "a.tsv").write_text("s\th:m:s\n100.0\t0:01:40\n110.0\t0:01:50\n")
    (tmp_path / "b.tsv").write_text("s\th:m:s\n80.0\t0:01:20\n")
    a, b = str(tmp_path / "a.tsv"), str(tmp_path / "b.tsv")
    return {
        "title": "Animals <from tags> & masks",
        "tables": [{"name": "x", "file": str(tmp_path / "table.html")}],
        "figures": [
            {"title": 'A "curve"', "caption": "What it shows", "file": str(tmp_path / "curves.png")}
        ],
        "benchmarks": {
            "train_classifier": {"cam": a, "sipe": [a, b]},
            "export_maps": {"cam": str(tmp_path / "gone.tsv"), "sipe": b},
        },
        "experiments": {
            "cam": {},
            "sipe": {
                "base": "cam",
                "title": "SIPE",
                "classifier": {"prototypes": "image", "gsc": True},
            },
        },
    }


def test_page_is_self_contained(spec: dict[str, Any], tmp_path: Path) -> None:
    write_report(spec, "abc123", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in page.addresses)
    anchors = [address[1:] for address in page.addresses if address.startswith("#")]
    assert len(anchors) == 5
    assert set(anchors) <= set(page.ids)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<link", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_image_is_embedded_whole(spec: dict[str, Any]) -> None:
    page = Page(render_report(spec, ""))
    (address,) = [a for a in page.addresses if a.startswith("data:")]
    content = base64.b64decode(address.partition(",")[2])
    assert content == Path(spec["figures"][0]["file"]).read_bytes()


def test_text_is_escaped_and_tables_are_not(spec: dict[str, Any]) -> None:
    text = render_report(spec, "<b>")
    assert "Animals &lt;from tags&gt; &amp; masks" in text
    assert "<b>" not in text
    assert '<figure id="table-x"><table></table></figure>' in text


def test_experiments_show_what_differs(spec: dict[str, Any]) -> None:
    words = Page(render_report(spec, "")).words
    at = words.index("sipe")
    assert words[at : at + 4] == [
        "sipe",
        "cam",
        "classifier.prototypes: image",
        "classifier.gsc: true",
    ]
    assert words[words.index("cam") + 2] == "nothing"


def test_times_add_shards_and_average_repetitions(spec: dict[str, Any]) -> None:
    words = Page(render_report(spec, "")).words
    at = words.index("train classifier")
    assert words[at : at + 3] == ["train classifier", "1 min 45 s", "3 min 05 s"]
    at = words.index("export maps")
    assert words[at : at + 3] == ["export maps", "–", "1 min 20 s"]
    at = words.index("sum")
    assert words[at : at + 3] == ["sum", "1 min 45 s", "4 min 25 s"]


def test_provenance_names_commit_and_versions(spec: dict[str, Any]) -> None:
    words = Page(render_report(spec, "abc123")).words
    assert words[words.index("commit") + 1] == "abc123"
    for package in ("Python", "torch", "numpy", "snakemake"):
        assert re.match(r"\d+\.\d+", words[words.index(package) + 1])
    words = Page(render_report(spec, "")).words
    assert words[words.index("commit") + 1] == "unknown"


def test_empty_sections_are_left_out() -> None:
    page = Page(render_report({"title": "Nothing yet"}, ""))
    assert page.ids == ["provenance"]
    assert page.addresses == ["#provenance"]


def test_report_is_reproducible(spec: dict[str, Any]) -> None:
    assert render_report(spec, "abc") == render_report(spec, "abc")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_errors_name_the_file(spec: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "broken.tsv").write_text("time\n1\n")
    with pytest.raises(InputError, match=r"broken\.tsv"):
        benchmark_seconds(str(tmp_path / "broken.tsv"))
    for part, file in (("tables", "gone.html"), ("figures", "gone.png"), ("figures", "x.pdf")):
        entry = {"name": "x", "title": "x", "caption": "", "file": str(tmp_path / file)}
        with pytest.raises(InputError, match=file.replace(".", r"\.")):
            render_report(spec | {part: [entry]}, "")
