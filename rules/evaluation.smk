# Needs: maps or labels, and masks. Makes: metrics.json of a stage.


rule evaluate_maps:
    input:
        INDEX_FILES,
        script=script("evaluate_maps"),
        settings=f"{RUN}/maps/settings.json",
        maps=f"{RUN}/maps/scored.h5",
    output:
        f"{RUN}/maps/metrics.json",
    log:
        f"logs/evaluate_maps/{LOGS}.log",
    benchmark:
        f"logs/evaluate_maps/{LOGS}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=EXPERIMENTS.dataset["maps_list"],
        code=code_digest("evaluate_maps"),
    message:
        "score the maps of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "exec python {input.script} --settings {input.settings} --index {params.index}"
        " --list {params.list:q} --maps {input.maps} --output {output} 2> {log}"


rule evaluate_labels:
    input:
        INDEX_FILES,
        script=script("evaluate_labels"),
        labels=scored_labels,
    output:
        f"{RUN}/{{stage}}/metrics.json",
    log:
        f"logs/evaluate_labels/{LOGS}-{{stage}}.log",
    benchmark:
        f"logs/evaluate_labels/{LOGS}-{{stage}}.tsv"
    wildcard_constraints:
        stage="|".join(SCORED_LABELS),
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=lambda wildcards: SCORED_LABELS[wildcards.stage][1],
        code=code_digest("evaluate_labels"),
    message:
        "score the {wildcards.stage} of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "exec python {input.script} --index {params.index} --list {params.list:q}"
        " --stage {wildcards.stage} --labels {input.labels} --output {output} 2> {log}"
