# Needs: the segmenter. Makes: predictions/predictions.h5, the validation list and the panel images;
# predictions/predictions_scores.h5, what the denseCRF needs of them, where it is asked for.


rule predict:
    input:
        INDEX_FILES,
        script=script("predict"),
        settings=f"{RUN}/predictions/settings.json",
        weights=stage_files("segmenter", "weights.pt"),
    output:
        labels=temp(f"{RUN}/predictions/shards/{{predicted}}-{{scatteritem}}.h5"),
        scores=temp(f"{RUN}/predictions/shards/{{predicted}}_scores-{{scatteritem}}.h5"),
    log:
        f"logs/predict/{LOGS}-{{predicted}}-{{scatteritem}}.log",
    benchmark:
        f"logs/predict/{LOGS}-{{predicted}}-{{scatteritem}}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=predicted_list,
        code=code_digest("predict"),
    message:
        "predict with {wildcards.experiment}, seed {wildcards.seed},"
        " {wildcards.predicted} {wildcards.scatteritem}"
    shell:
        "exec python {input.script} --settings {input.settings} --index {params.index}"
        " --list {params.list:q} --shard {wildcards.scatteritem} --weights {input.weights}"
        " --output {output.labels} --scores {output.scores} 2> {log}"


rule export_png:
    input:
        labels=f"{RUN}/{{stage}}/{{file}}.h5",
        script=script("export_png"),
    output:
        directory(f"{RUN}/{{stage}}/png/{{file}}"),
    log:
        f"logs/export_png/{LOGS}-{{stage}}-{{file}}.log",
    wildcard_constraints:
        file="[a-z_]+",
    conda:
        "../envs/protoseg.yaml"
    params:
        code=code_digest("export_png"),
    message:
        "palette PNGs of {input.labels}"
    shell:
        "exec python {input.script} --labels {input.labels} --output {output} 2> {log}"
