"""Result tables: means, deviations, reported figures, shares, notes and the four formats."""

from __future__ import annotations

import csv
import io
import json
import math
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from protoseg.errors import InputError
from protoseg.report.table_formats import to_csv, to_html, to_latex, to_markdown, write_table
from protoseg.report.tables import Table, build_table

NAMES = ["background", "cat", "dog"]


def write_metrics(path: Path, stage: str, iou: list[float | None], **changes: Any) -> str:
    counted = [rate for rate in iou if rate is not None]
    values = {
        "stage": stage,
        "list": "val" if stage == "predictions" else "train",
        "images": 150 if stage == "predictions" else 287,
        "classes_counted": len(counted),
        "class_names": NAMES,
        "miou": sum(counted) / len(counted),
        "iou": iou,
        "reading": "label",
    }
    path.write_text(json.dumps(values | changes))
    return str(path)


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    """Two experiments over three seeds and one, a supervised row, and a row of a paper."""
    reading = {"reading": "best threshold 0.30", "best_threshold": 0.3, "best_threshold_miou": 49.0}
    cam = [
        write_metrics(tmp_path / f"cam{seed}.json", "maps", [60, 40, 44 + 3 * seed], **reading)
        for seed in range(3)
    ]
    cam_predicted = write_metrics(tmp_path / "cam_p.json", "predictions", [70, 50, 60])
    sipe = write_metrics(
        tmp_path / "sipe.json", "maps", [80, None, 50], reading="estimated background"
    )
    full = write_metrics(tmp_path / "full.json", "predictions", [90, 70, 80])
    return {
        "name": "contributions",
        "title": "What it brings",
        "note": "Not a VOC score.",
        "columns": ["maps.miou", "predictions.miou", "maps.iou.dog"],
        "rows": [
            {
                "name": "cam",
                "title": "CAM",
                "metrics": {"maps": cam, "predictions": [cam_predicted]},
            },
            {"name": "sipe", "title": "SIPE", "metrics": {"maps": [sipe]}},
            {"name": "supervised", "title": "Full masks", "metrics": {"predictions": [full]}},
        ],
        "reported": {"cam": {"maps.miou": 50.1}, "seam": {"maps.miou": 55.4}},
        "share_of": "supervised",
    }


def cell(table: Table, row: int, heading: str) -> str:
    return table.text[row][table.headings.index(heading)]


def test_mean_and_sample_deviation_over_seeds(spec: dict[str, Any]) -> None:
    table = build_table(spec)
    numbers = table.numbers.set_index("row")
    assert numbers.loc["cam", "maps.miou.mean"] == pytest.approx(49.0)  # 48, 49, 50
    assert numbers.loc["cam", "maps.miou.std"] == pytest.approx(1.0)
    assert numbers.loc["cam", "maps.miou.n"] == 3
    assert numbers.loc["cam", "maps.iou.dog.std"] == pytest.approx(3.0)
    assert cell(table, 0, "Maps mIoU") == "49.0 ± 1.0"
    assert numbers["predictions.miou.std"].isna().all()
    assert cell(table, 0, "Predictions mIoU") == "60.0"


def test_reported_column_stands_beside_its_column_only(spec: dict[str, Any]) -> None:
    table = build_table(spec)
    place = table.headings.index("Maps mIoU")
    assert table.headings[place + 1] == "reported"
    assert table.headings.count("reported") == 1
    assert [cells[place + 1] for cells in table.text] == ["50.1", "–", "–", "55.4"]


def test_row_that_is_only_reported(spec: dict[str, Any]) -> None:
    table = build_table(spec)
    assert table.text[-1] == ["seam", "–", "55.4", "–", "–", "–"]
    assert table.numbers["row"].tolist() == ["cam", "sipe", "supervised", "seam"]
    spec["rows"].append({"name": "seam", "title": "SEAM", "metrics": {}})
    assert build_table(spec).text[-1][0] == "SEAM"


def test_column_that_is_only_reported(spec: dict[str, Any]) -> None:
    spec["columns"] = ["predictions.miou", "test.miou"]
    spec["reported"] = {"supervised": {"test.miou": 79.7}, "seam": {"test.miou": 65.7}}
    table = build_table(spec | {"share_of": None})
    assert table.headings[1:] == ("Predictions mIoU", "Test server mIoU, reported")
    assert [cells[2] for cells in table.text] == ["–", "–", "79.7", "65.7"]
    assert table.numbers["test.miou.mean"].isna().all()


def test_table_that_is_only_reported(spec: dict[str, Any]) -> None:
    figures = {"test.iou.cat": 79.0, "test.iou.dog": 33.8, "test.miou": 66.4}
    spec |= {"columns": ["test.iou.*", "test.miou"], "rows": [], "share_of": None}
    table = build_table(spec | {"reported": {"paper": figures}})
    assert table.headings == ("Experiment", "cat", "dog", "mIoU")
    assert table.text == [["paper", "79.0", "33.8", "66.4"]]
    assert "not measured here" in " ".join(table.notes)


def test_share_of_the_supervised_row(spec: dict[str, Any]) -> None:
    table = build_table(spec)
    assert "maps.miou.share" not in table.numbers  # the supervised row has no maps
    assert table.numbers["predictions.miou.share"].tolist()[::2] == pytest.approx([75.0, 100.0])
    assert cell(table, 0, "% of Full masks") == "75.0"
    spec["share_of"] = None
    assert not any("%" in heading for heading in build_table(spec).headings)


def test_shares_of_different_rows(spec: dict[str, Any]) -> None:
    spec["share_of"] = {"cam": "supervised", "supervised": "supervised"}
    assert build_table(spec).headings.count("% of Full masks") == 1
    spec |= {"share_of": {"cam": "sipe", "seam": "supervised"}, "columns": ["maps.miou"]}
    table = build_table(spec)
    shares = table.numbers.set_index("row")["maps.miou.share"]
    assert shares["cam"] == pytest.approx(100 * 49.0 / table.numbers["maps.miou.mean"][1])
    assert shares[["sipe", "supervised", "seam"]].isna().all()
    assert table.headings[-1] == "% of its reference"
    assert "100 %: SIPE for CAM, Full masks for seam." in table.notes


def test_every_class_and_an_absent_one(spec: dict[str, Any]) -> None:
    spec |= {"columns": ["maps.iou.*"], "reported": {}, "share_of": None}
    table = build_table(spec)
    assert table.headings == ("Experiment", *NAMES)
    assert table.text[1] == ["SIPE", "80.0", "–", "50.0"]
    assert table.numbers["maps.iou.cat.n"].tolist() == [3, 0, 0]


def test_notes_say_list_images_classes_and_reading(spec: dict[str, Any]) -> None:
    notes = " ".join(build_table(spec).notes)
    assert notes.startswith("Not a VOC score.")
    assert "over 3 seeds" in notes
    assert "list train, 287 images, 3 of 3 classes (CAM)" in notes
    assert "list train, 287 images, 2 of 3 classes (SIPE)" in notes
    assert "Maps read by best threshold 0.30 (CAM); estimated background (SIPE)." in notes
    assert "Predictions scored on list val, 150 images, 3 of 3 classes." in notes
    assert "not measured here" in notes


def test_notes_name_the_rule_by_which_masks_were_painted(spec: dict[str, Any]) -> None:
    painted = Path(spec["rows"][1]["metrics"]["maps"][0])
    values = json.loads(painted.read_text())
    painted.write_text(json.dumps(values | {"painting": "smaller_on_top"}))
    notes = " ".join(build_table(spec).notes)
    assert "2 of 3 classes, coco_painting smaller_on_top (SIPE)" in notes


def test_threshold_has_two_decimals(spec: dict[str, Any]) -> None:
    spec |= {"columns": ["maps.best_threshold", "maps.best_threshold_miou"], "reported": {}}
    table = build_table(spec)
    assert table.headings[1:] == ("best threshold", "mIoU at best threshold")
    assert table.text[0] == ["CAM", "0.30 ± 0.00", "49.0 ± 0.0"]
    assert table.text[1] == ["SIPE", "–", "–"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": ["maps.iou.cow"]}, r"maps\.iou\.cow.*there is .*maps\.iou\.cat"),
        ({"reported": {"cam": {"maps.iuo": 1.0}}}, r"reported\.cam\.maps\.iuo is no column"),
        ({"share_of": "full"}, "share_of 'full' is none of its rows"),
        ({"share_of": {"cam": "full"}}, "share_of 'full' is none of its rows"),
        ({"rows": [{"name": "x", "metrics": {"maps": ["gone.json"]}}]}, "gone.json cannot be read"),
    ],
)
def test_errors_name_what_is_wrong(
    spec: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        build_table(spec | change)


def test_metrics_of_another_stage(spec: dict[str, Any]) -> None:
    metrics = spec["rows"][0]["metrics"]
    metrics["predictions"] = metrics["maps"]
    with pytest.raises(InputError, match="holds metrics of 'maps', not of 'predictions'"):
        build_table(spec)


def test_csv_has_full_precision(spec: dict[str, Any]) -> None:
    spec["rows"][0]["metrics"]["maps"].pop()
    lines = list(csv.DictReader(io.StringIO(to_csv(build_table(spec)))))
    assert float(lines[0]["maps.miou.std"]) == math.sqrt(0.5)
    assert lines[0]["maps.miou.n"] == "2"
    assert lines[3]["maps.miou.mean"] == ""
    assert lines[3]["maps.miou.reported"] == "55.4"


def test_latex_escapes_and_rules(spec: dict[str, Any]) -> None:
    spec["rows"][0]["title"] = r"50% & $x_1$ #{a}~b^\c"
    text = to_latex(build_table(spec))
    assert r"50\% \& \$x\_1\$ \#\{a\}\textasciitilde{}b\textasciicircum{}\textbackslash{}c" in text
    assert r"49.0 $\pm$ 1.0 & 50.1" in text
    order = [text.index(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")]
    assert order == sorted(order)
    assert r"\begin{tabular}{lrrrrr}" in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 5
    assert all(row.replace(r"\&", "").count("&") == 5 for row in rows)
    assert text.isascii()


def test_markdown_rows_have_as_many_cells_as_the_heading(spec: dict[str, Any]) -> None:
    spec["rows"][0]["title"] = "a|b_c"
    lines = to_markdown(build_table(spec)).splitlines()
    body = [line.replace(r"\|", "") for line in lines if line.startswith("|")]
    assert {line.count("|") for line in body} == {7}
    assert any(r"a\|b\_c" in line for line in lines)


def test_html_is_escaped_balanced_ascii(spec: dict[str, Any]) -> None:
    spec["rows"][0]["title"] = "<script>alert(1)</script>"
    text = to_html(build_table(spec))
    assert text.isascii()
    assert "<script" not in text
    open_tags: list[str] = []
    data: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

        def handle_data(self, text: str) -> None:
            data.append(text)

    Checker().feed(text)
    assert open_tags == []
    assert "49.0 ± 1.0" in data


def test_files_of_every_format_are_reproducible(spec: dict[str, Any], tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_table(build_table(spec), tmp_path / folder)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == [f"contributions.{suffix}" for suffix in ("csv", "html", "md", "tex")]
    assert all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )
