# Needs: the scores of the predictions. Makes: predictions_crf/predictions.h5, where a table or a
# target asks for it.


rule refine_predictions:
    input:
        INDEX_FILES,
        script=script("refine_predictions"),
        settings=f"{RUN}/predictions_crf/settings.json",
        predictions=stage_files("predictions", "settings.json"),
        scores=lambda wildcards: stage_files(
            "predictions", f"{wildcards.predicted}_scores.h5"
        )(wildcards),
    output:
        temp(f"{RUN}/predictions_crf/shards/{{predicted}}-{{scatteritem}}.h5"),
    log:
        f"logs/refine_predictions/{LOGS}-{{predicted}}-{{scatteritem}}.log",
    benchmark:
        f"logs/refine_predictions/{LOGS}-{{predicted}}-{{scatteritem}}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=predicted_list,
        code=code_digest("refine_predictions"),
    message:
        "denseCRF on the predictions of {wildcards.experiment}, seed {wildcards.seed},"
        " {wildcards.predicted} {wildcards.scatteritem}"
    shell:
        "exec python {input.script} --settings {input.settings} --index {params.index}"
        " --list {params.list:q} --shard {wildcards.scatteritem} --scores {input.scores}"
        " --predictions {input.predictions}"
        " --output {output} --workers {threads} 2> {log}"
