# Configuration, paths and input helpers; no rule and no science.
# Needs: config. Makes: EXPERIMENTS, DATASET and the functions below.
import os
import re
import sys
from pathlib import Path

from snakemake.utils import update_config

sys.path.insert(0, str(Path(workflow.basedir) / "workflow_scripts"))

from protoseg.slurm import become_the_right_command

become_the_right_command()

from protoseg.errors import InputError
from protoseg.settings.configuration import SCORED_STAGES, read_configuration, typed
from protoseg.settings.experiments import all_upstream
from protoseg.settings.provenance import code_digest
from protoseg.settings.stage_file import settings_text

update_config(config, typed(dict(workflow.config_settings.config)))

try:
    CONFIGURATION = read_configuration(config)
except InputError as error:
    raise WorkflowError(str(error))

EXPERIMENTS = CONFIGURATION.experiments
DATASET = EXPERIMENTS.dataset["name"]
INDEX = f"results/{DATASET}"
RUN = f"results/{DATASET}/{{experiment}}/seed{{seed}}"
CHECKPOINT = f"checkpoints/{DATASET}/{{experiment}}/seed{{seed}}"
LOGS = f"{DATASET}/{{experiment}}-seed{{seed}}"
INDEX_FILES = [f"{INDEX}/images.csv", f"{INDEX}/dataset.json"]

# Maps and labels of the scored images apart from the others: a table of maps alone needs the first
# part only.
PARTS = {
    "scored": EXPERIMENTS.dataset["maps_list"],
    "rest": f"({EXPERIMENTS.dataset['labels_list']}) - ({EXPERIMENTS.dataset['maps_list']})",
}

# What the segmenter predicts on, by file: the scored images and those of the panels; images without
# ground truth.
PREDICTED = {
    "predictions": f"({EXPERIMENTS.dataset['val_list']}) + {CONFIGURATION.panel_images}",
}
if EXPERIMENTS.dataset["test_list"]:
    PREDICTED["test"] = EXPERIMENTS.dataset["test_list"]


wildcard_constraints:
    experiment=r"[^/]+",
    seed=r"\d+",
    stage=r"[a-z_]+",
    part="|".join(PARTS),
    predicted="|".join(PREDICTED),
    scatteritem=r"\d+-of-\d+",


scattergather:
    split=CONFIGURATION.shards,


def stage_files(stage, *names):
    """Input function: files of ``stage``, from the experiment that owns it."""

    def files(wildcards):
        return [
            result(wildcards.experiment, wildcards.seed, stage, name) for name in names
        ]

    return files


def label_files(wildcards):
    """Labels that the segmenter trains on: both parts, or none for the ground truth."""
    labels = EXPERIMENTS.settings[wildcards.experiment]["segmenter"]["labels"]
    if labels == "ground_truth":
        return []
    return stage_files(labels, "scored.h5", "rest.h5")(wildcards)


def class_prototypes(wildcards):
    """The file of class prototypes where they have a share in the maps, else nothing."""
    if not EXPERIMENTS.settings[wildcards.experiment]["maps"]["class_prototype_share"]:
        return []
    return stage_files("maps", "class_prototypes.npz")(wildcards)


def classifier_weights(stage):
    """Input function: the classifier's weights where ``stage`` starts from them, else nothing."""

    def files(wildcards):
        if EXPERIMENTS.settings[wildcards.experiment][stage]["weights"] != "classifier":
            return []
        return stage_files("classifier", "weights.pt")(wildcards)

    return files


def initial_segmenter(wildcards):
    """The segmenter to start from, if one is set; it may be one that the workflow trains."""
    init = EXPERIMENTS.settings[wildcards.experiment]["segmenter"]["init"]
    return [init] if init else []


def check_batches(resources):
    """Refuse a batch that the GPUs of its training cannot share, before anything has run.

    ``resources`` are those that a profile or the command line sets, by rule.
    """
    for stage in ("classifier", "affinity", "segmenter"):
        gpu = resources.get(f"train_{stage}", {}).get("gpu")
        if gpu is None or gpu.is_evaluable():
            continue
        for experiment, settings in EXPERIMENTS.settings.items():
            batch = settings[stage]["batch_size"]
            if settings[stage].get("prototypes") == "pairs":
                batch //= 2
            if batch % int(gpu.value):
                raise WorkflowError(
                    f"{experiment}: a batch of {batch} images (or pairs) cannot be shared by "
                    f"{gpu.value} GPUs; set {stage}.batch_size to a multiple, or gpu of "
                    f"train_{stage} in the profile"
                )


def repository_file(name):
    """Path from the working directory: inputs are compared by path, and the checkout may move."""
    return os.path.relpath(Path(workflow.basedir) / name)


def weights_name(weights):
    """A weights setting as part of a file name."""
    return re.sub(r"[^A-Za-z0-9]+", "_", weights).strip("_")


WEIGHTS = {
    weights_name(settings[stage]["weights"]): settings[stage]["weights"]
    for settings in EXPERIMENTS.settings.values()
    for stage in ("classifier", "affinity", "segmenter")
}


def weights_file(wildcards):
    """The file to check, if it is there: torchvision's weights are none, a missing one fails.

    check_weights says so before any training; a dry run needs neither data nor weights.
    """
    weights = WEIGHTS[wildcards.weights]
    return weights if os.path.isfile(weights) else []


def weights_checks(*stages):
    """Input function: the proofs that the initial weights of ``stages`` fit their backbones."""

    def files(wildcards):
        found = []
        for stage in stages:
            settings = EXPERIMENTS.settings[wildcards.experiment][stage]
            if settings.get("init"):
                continue
            if settings["weights"] not in ("random", "classifier"):
                name = weights_name(settings["weights"])
                found.append(f"results/weights/{settings['backbone']}/{name}.json")
        return list(dict.fromkeys(found))

    return files


def script(name):
    """Path of a command; never a reason to rerun, its code digest is."""
    return ancient(repository_file(f"workflow_scripts/{name}.py"))


def predicted_list(wildcards):
    """List expression of the predicted images in the wildcards."""
    return PREDICTED[wildcards.predicted]


def result_kind(wildcards):
    """What a result file holds: maps, a segmenter's scores, or labels."""
    if wildcards.stage == "maps":
        return "maps"
    return "scores" if wildcards.file.endswith("_scores") else "labels"


def part_list(wildcards):
    """List expression of the part in the wildcards."""
    return PARTS[wildcards.part]


def result(experiment, seed, stage, name):
    """A result file of ``experiment``, wherever its owner keeps it."""
    owner = EXPERIMENTS.owner(experiment, stage)
    return f"results/{DATASET}/{owner}/seed{seed}/{stage}/{name}"


def every(stage, name, experiments=None):
    """That file for every experiment and seed, each owner once."""
    chosen = EXPERIMENTS.names if experiments is None else experiments
    found = [result(e, s, stage, name) for e in chosen for s in EXPERIMENTS.seeds]
    return list(dict.fromkeys(found))


def experiment_metrics(experiment):
    """Scores of every stage that leads to the predictions of ``experiment``."""
    needed = all_upstream("predictions", EXPERIMENTS.settings[experiment])
    return [
        file
        for stage in SCORED_STAGES
        if stage in needed
        for file in every(stage, "metrics.json", [experiment])
    ]


def test_results(stage, name):
    """Input function: that file on the images of test_list, of every experiment."""

    def files(wildcards):
        if "test" not in PREDICTED:
            raise WorkflowError("set dataset.test_list: name the list of test images")
        return every(stage, name)

    return files


def index_folder(wildcards, input):
    """Folder of the index, the first input of every rule that reads images."""
    return str(Path(input[0]).parent)


def output_folder(wildcards, output):
    """Folder of the first output."""
    return str(Path(output[0]).parent)


def stage_settings_text(wildcards):
    """Content of a stage's settings.json."""
    values = EXPERIMENTS.settings[wildcards.experiment][wildcards.stage]
    return settings_text({"seed": int(wildcards.seed), wildcards.stage: values})


SCORED_LABELS = {
    "pseudo_labels": ("scored.h5", EXPERIMENTS.dataset["maps_list"]),
    "refined_labels": ("scored.h5", EXPERIMENTS.dataset["maps_list"]),
    "predictions": ("predictions.h5", EXPERIMENTS.dataset["val_list"]),
    "predictions_crf": ("predictions.h5", EXPERIMENTS.dataset["val_list"]),
}


def scored_labels(wildcards):
    """The label file that evaluate_labels scores."""
    return f"{RUN}/{wildcards.stage}/{SCORED_LABELS[wildcards.stage][0]}".format(
        **wildcards
    )
