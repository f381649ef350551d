# Specifications of tables, figures and the report: which result files they read. No rule.
import json

from protoseg.settings.configuration import SCORED_STAGES


def scores_of(row, stage):
    """Whether a row has scores of its own in a stage: one trained on masks only has predictions."""
    if row not in EXPERIMENTS.names or stage not in SCORED_STAGES:
        return False
    labels = EXPERIMENTS.settings[row]["segmenter"]["labels"]
    return labels != "ground_truth" or stage in ("predictions", "predictions_crf")


def table_spec(table):
    """What make_table needs to know: where the metrics of every row and stage lie."""
    spec = CONFIGURATION.tables[table]
    stages = sorted({column.partition(".")[0] for column in spec["columns"]})
    rows = [
        {
            "name": row,
            "title": EXPERIMENTS.titles.get(row, row),
            "metrics": {
                stage: [
                    result(row, seed, stage, "metrics.json")
                    for seed in EXPERIMENTS.seeds
                ]
                for stage in stages
                if scores_of(row, stage)
            },
        }
        for row in spec["rows"]
    ]
    defaults = {"title": table, "note": "", "share_of": None}
    return defaults | spec | {"name": table, "rows": rows}


def table_metrics(wildcards):
    rows = table_spec(wildcards.table)["rows"]
    found = [
        file for row in rows for files in row["metrics"].values() for file in files
    ]
    return list(dict.fromkeys(found))


def planned_owners():
    """Stage -> experiments under whose names the tables make it run, in their order."""
    owners = {}
    for spec in CONFIGURATION.tables.values():
        for row in spec["rows"]:
            stages = {column.partition(".")[0] for column in spec["columns"]}
            for scored in (stage for stage in stages if scores_of(row, stage)):
                for stage in all_upstream(scored, EXPERIMENTS.settings[row]):
                    owners.setdefault(stage, set()).add(EXPERIMENTS.owner(row, stage))
    return {
        stage: [name for name in EXPERIMENTS.names if name in found]
        for stage, found in owners.items()
    }


PLANNED = planned_owners()


def planned_files(stage, file):
    """That file of the first seed, by experiment, for every owner that the tables reach."""
    seed = EXPERIMENTS.seeds[0]
    return {name: result(name, seed, stage, file) for name in PLANNED[stage]}


def curves_spec(stage):
    """Histories of one training stage."""
    files = planned_files(stage, "history.csv")
    return {"title": stage, "kind": "history", "files": files}


def sweep_spec():
    """Threshold sweeps of the maps."""
    return {
        "title": "mIoU of maps by background score",
        "kind": "sweep",
        "files": planned_files("maps", "metrics.json"),
    }


def panels_spec():
    """Columns of the panels: image, maps, labels of every stage, ground truth.

    The denseCRF on predictions has a column where the tables plan it for that experiment.
    """
    seed = EXPERIMENTS.seeds[0]
    columns = [{"title": "image", "kind": "image"}]
    for name in CONFIGURATION.panels.get("maps", []):
        title = (
            "CAM"
            if EXPERIMENTS.settings[name]["classifier"]["prototypes"] != "image"
            else "IS-CAM"
        )
        file = result(name, seed, "maps", "scored.h5")
        columns.append({"title": f"{title} ({name})", "kind": "maps", "file": file})
    labels = CONFIGURATION.panels.get("labels")
    for stage in SCORED_LABELS if labels else []:
        owner = EXPERIMENTS.owner(labels, stage)
        if stage == "predictions_crf" and owner not in PLANNED.get(stage, []):
            continue
        file = result(labels, seed, stage, SCORED_LABELS[stage][0])
        title = stage.replace("_", " ").removesuffix("s")
        columns.append({"title": f"{title} ({labels})", "kind": "labels", "file": file})
    columns.append({"title": "ground truth", "kind": "ground_truth"})
    return {
        "title": CONFIGURATION.title,
        "index": INDEX,
        "images": CONFIGURATION.panel_images,
        "columns": columns,
    }


# Only what the tables reach: a table of maps trains no segmenter.
FIGURES = {
    f"curves_{stage}": curves_spec(stage)
    for stage in ("classifier", "affinity", "segmenter")
    if stage in PLANNED
}
if "maps" in PLANNED:
    FIGURES["threshold_sweep"] = sweep_spec()
if CONFIGURATION.panels:
    FIGURES["panels"] = panels_spec()


def figure_files(wildcards):
    spec = FIGURES[wildcards.figure]
    if "files" in spec:
        return list(spec["files"].values())
    return INDEX_FILES + [
        column["file"] for column in spec["columns"] if "file" in column
    ]


def benchmark_files(rule_name, stage, suffix=""):
    """Wall clock of a rule, by experiment: the owner's files, shards added up by the report."""
    found = {}
    for name in EXPERIMENTS.names:
        if EXPERIMENTS.owner(name, stage) != name:
            continue
        pattern = (
            f"logs/{rule_name}/{DATASET}/{name}-seed{EXPERIMENTS.seeds[0]}{suffix}.tsv"
        )
        found[name] = expand(
            pattern,
            part=PARTS,
            item=[
                f"{i}-of-{CONFIGURATION.shards}"
                for i in range(1, CONFIGURATION.shards + 1)
            ],
        )
    return found


def differences(name):
    """What sets an experiment apart from its base, by stage."""
    base = EXPERIMENTS.bases[name]
    own = EXPERIMENTS.settings[name]
    if base is None:
        return {}
    parent = EXPERIMENTS.settings[base]
    changed = {
        stage: {k: v for k, v in own[stage].items() if v != parent[stage][k]}
        for stage in own
    }
    origin = (
        {"preset": EXPERIMENTS.presets[name]} if name in EXPERIMENTS.presets else {}
    )
    return (
        {"base": base}
        | origin
        | {stage: values for stage, values in changed.items() if values}
    )


CAPTIONS = {
    "panels": "Images of the scored list: localization maps and the labels that follow from them.",
    "threshold_sweep": "Maps read at every background score; the dashed line is their own reading.",
    "curves_classifier": "Training of the classifier.",
    "curves_affinity": "Training of the affinity network.",
    "curves_segmenter": "Training of the segmenter.",
}


def report_spec():
    figures = [
        {"title": name.replace("_", " "), "caption": CAPTIONS[name], "file": file}
        for name in FIGURES
        for file in [f"results/figures/{name}.png"]
    ]
    shards = "-{part}-{item}"
    return {
        "title": CONFIGURATION.title,
        "tables": [
            {"name": table, "file": f"results/tables/{table}.html"}
            for table in CONFIGURATION.tables
        ],
        "figures": sorted(figures, key=lambda figure: figure["title"] != "panels"),
        "benchmarks": {
            "train_classifier": benchmark_files("train_classifier", "classifier"),
            "export_maps": benchmark_files("export_maps", "maps", shards),
            "make_pseudo_labels": benchmark_files(
                "make_pseudo_labels", "pseudo_labels", shards
            ),
            "train_affinity": benchmark_files("train_affinity", "affinity"),
            "refine_labels": benchmark_files("refine_labels", "refined_labels", shards),
            "train_segmenter": benchmark_files("train_segmenter", "segmenter"),
            "predict": benchmark_files("predict", "predictions", "-predictions-{item}"),
            "refine_predictions": benchmark_files(
                "refine_predictions", "predictions_crf", "-predictions-{item}"
            ),
        },
        "experiments": {name: differences(name) for name in EXPERIMENTS.names},
    }


def spec_text(wildcards):
    if wildcards.kind == "tables":
        spec = table_spec(wildcards.name)
    elif wildcards.kind == "figures":
        spec = FIGURES[wildcards.name]
    else:
        spec = report_spec()
    return json.dumps(spec, indent=2)
