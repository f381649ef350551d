# Needs: refined labels, pseudo labels or the ground truth. Makes: the segmenter's weights, history.


rule train_segmenter:
    input:
        INDEX_FILES,
        script=script("train_segmenter"),
        settings=f"{RUN}/segmenter/settings.json",
        weights_checks=weights_checks("segmenter"),
        labels=label_files,
        classifier=classifier_weights("segmenter"),
        init=initial_segmenter,
    output:
        weights=f"{RUN}/segmenter/weights.pt",
        history=f"{RUN}/segmenter/history.csv",
    log:
        f"logs/train_segmenter/{LOGS}.log",
    benchmark:
        f"logs/train_segmenter/{LOGS}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=EXPERIMENTS.dataset["labels_list"],
        checkpoint=f"{CHECKPOINT}/segmenter.pt",
        code=code_digest("train_segmenter"),
    message:
        "train the segmenter of {wildcards.experiment}, seed {wildcards.seed}"
    shell:
        "exec python {input.script} --settings {input.settings} --index {params.index}"
        " --list {params.list:q} --labels {input.labels} --classifier {input.classifier}"
        " --checkpoint {params.checkpoint} --weights {output.weights}"
        " --history {output.history} --workers {threads} --code {params.code} 2> {log}"
