# Needs: the IR labels. Makes: the affinity network's weights and history.


rule train_affinity:
    input:
        INDEX_FILES,
        script=script("train_affinity"),
        settings=f"{RUN}/affinity/settings.json",
        weights_checks=weights_checks("affinity"),
        labels=stage_files("pseudo_labels", "ir_scored.h5", "ir_rest.h5"),
        classifier=classifier_weights("affinity"),
    output:
        weights=f"{RUN}/affinity/weights.pt",
        history=f"{RUN}/affinity/history.csv",
    log:
        f"logs/train_affinity/{LOGS}.log",
    benchmark:
        f"logs/train_affinity/{LOGS}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=EXPERIMENTS.dataset["labels_list"],
        checkpoint=f"{CHECKPOINT}/affinity.pt",
        code=code_digest("train_affinity"),
    message:
        "train the affinity network of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "exec python {input.script} --settings {input.settings} --index {params.index}"
        " --list {params.list:q} --labels {input.labels} --classifier {input.classifier}"
        " --checkpoint {params.checkpoint} --weights {output.weights}"
        " --history {output.history} --workers {threads} --code {params.code} 2> {log}"
