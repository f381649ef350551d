# protoseg: from image tags to segmentation
#
#   images + image-level labels
#     -> index_dataset -> train_classifier -> export_maps -> make_pseudo_labels
#     -> train_affinity -> refine_labels -> train_segmenter -> predict (-> refine_predictions)
#     -> evaluate_maps, evaluate_labels -> make_table, draw_panels, draw_curves, make_report
#
# snakemake                                  every table, figure and the report of config.yaml
# snakemake maps                             one stage of every experiment, and what it needs
# snakemake experiment_sipe                  one experiment
# snakemake --configfile experiments/x.yaml  another configuration
from snakemake.utils import min_version

min_version("9.0")

if "experiments" not in config:

    configfile: f"{workflow.basedir}/config.yaml"


include: "rules/common.smk"
include: "rules/settings.smk"
include: "rules/data.smk"
include: "rules/weights.smk"
include: "rules/classifier.smk"
include: "rules/maps.smk"
include: "rules/pseudo_labels.smk"
include: "rules/affinity.smk"
include: "rules/refined_labels.smk"
include: "rules/segmenter.smk"
include: "rules/predictions.smk"
include: "rules/predictions_crf.smk"
include: "rules/evaluation.smk"
include: "rules/submission.smk"
include: "rules/report.smk"
include: "rules/targets.smk"


onstart:
    # Without a profile for SLURM, profiles/default holds: one GPU, no memory, no partition.
    resources = workflow.resource_settings.overwrite_resources
    incomplete = "mem_mb" not in resources.get("train_classifier", {})
    if workflow.executor_plugin.name == "slurm" and incomplete:
        raise WorkflowError("SLURM needs its profile: say --profile profiles/slurm")
    check_batches(resources)


rule all:
    default_target: True
    input:
        rules.make_report.output,
        # Without a table nothing says what is wanted: everything.
        [
            file
            for name in EXPERIMENTS.names
            if not CONFIGURATION.tables
            for file in experiment_metrics(name)
        ],
    localrule: True
