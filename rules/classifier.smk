# Needs: the index. Makes: the classifier's weights and history.


rule train_classifier:
    input:
        INDEX_FILES,
        script=script("train_classifier"),
        settings=f"{RUN}/classifier/settings.json",
        weights_checks=weights_checks("classifier", "affinity", "segmenter"),
    output:
        weights=f"{RUN}/classifier/weights.pt",
        history=f"{RUN}/classifier/history.csv",
    log:
        f"logs/train_classifier/{LOGS}.log",
    benchmark:
        f"logs/train_classifier/{LOGS}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=EXPERIMENTS.dataset["train_list"],
        checkpoint=f"{CHECKPOINT}/classifier.pt",
        code=code_digest("train_classifier"),
    message:
        "train the classifier of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "exec python {input.script} --settings {input.settings} --index {params.index}"
        " --list {params.list:q} --checkpoint {params.checkpoint} --weights {output.weights}"
        " --history {output.history} --workers {threads} --code {params.code} 2> {log}"
