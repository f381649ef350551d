# Needs: predictions on test_list, which has no ground truth. Makes: submission.tgz for VOC's server.


rule make_submission:
    input:
        INDEX_FILES,
        script=script("make_submission"),
        labels=f"{RUN}/{{stage}}/test.h5",
    output:
        f"{RUN}/{{stage}}/submission.tgz",
    log:
        f"logs/make_submission/{LOGS}-{{stage}}.log",
    wildcard_constraints:
        stage="predictions|predictions_crf",
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=EXPERIMENTS.dataset["test_list"],
        code=code_digest("make_submission"),
    message:
        "pack the {wildcards.stage} of {wildcards.experiment}, seed {wildcards.seed}, for VOC's server"
    shell:
        "exec python {input.script} --index {params.index} --list {params.list:q}"
        " --labels {input.labels} --output {output} 2> {log}"
