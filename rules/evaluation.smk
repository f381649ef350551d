# Needs: maps or labels, and masks. Makes: metrics.json of a stage.

SCORED_LABELS = {
    "pseudo_labels": ("scored.h5", EXPERIMENTS.dataset["maps_list"]),
    "refined_labels": ("scored.h5", EXPERIMENTS.dataset["maps_list"]),
    "predictions": ("predictions.h5", EXPERIMENTS.dataset["val_list"]),
}


def scored_labels(wildcards):
    return f"{RUN}/{wildcards.stage}/{SCORED_LABELS[wildcards.stage][0]}".format(**wildcards)


rule evaluate_maps:
    input:
        INDEX_FILES,
        script=script("evaluate_maps"),
        maps=f"{RUN}/maps/scored.h5",
    output:
        f"{RUN}/maps/metrics.json",
    params:
        index=INDEX,
        list=EXPERIMENTS.dataset["maps_list"],
        code=code_digest("evaluate_maps"),
    log:
        f"logs/evaluate_maps/{LOGS}.log",
    benchmark:
        f"logs/evaluate_maps/{LOGS}.tsv"
    message:
        "score the maps of {wildcards.experiment}, seed {wildcards.seed}"
    conda:
        "../envs/protoseg.yaml"
    shell:
        "exec python {input.script} --index {params.index} --list {params.list:q}"
        " --maps {input.maps} --output {output} 2> {log}"


rule evaluate_labels:
    input:
        INDEX_FILES,
        script=script("evaluate_labels"),
        labels=scored_labels,
    output:
        f"{RUN}/{{stage}}/metrics.json",
    wildcard_constraints:
        stage="|".join(SCORED_LABELS),
    params:
        index=INDEX,
        list=lambda wildcards: SCORED_LABELS[wildcards.stage][1],
        code=code_digest("evaluate_labels"),
    log:
        f"logs/evaluate_labels/{LOGS}-{{stage}}.log",
    benchmark:
        f"logs/evaluate_labels/{LOGS}-{{stage}}.tsv"
    message:
        "score the {wildcards.stage} of {wildcards.experiment}, seed {wildcards.seed}"
    conda:
        "../envs/protoseg.yaml"
    shell:
        "exec python {input.script} --index {params.index} --list {params.list:q}"
        " --stage {wildcards.stage} --labels {input.labels} --output {output} 2> {log}"
