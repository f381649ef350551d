# Needs: maps and the affinity network. Makes: refined_labels/{scored,rest}.h5 by random walk.


rule refine_labels:
    input:
        INDEX_FILES,
        script=script("refine_labels"),
        settings=f"{RUN}/refined_labels/settings.json",
        maps=lambda wildcards: stage_files("maps", f"{wildcards.part}.h5")(wildcards),
        weights=stage_files("affinity", "weights.pt"),
    output:
        temp(f"{RUN}/refined_labels/shards/{{part}}-{{scatteritem}}.h5"),
    log:
        f"logs/refine_labels/{LOGS}-{{part}}-{{scatteritem}}.log",
    benchmark:
        f"logs/refine_labels/{LOGS}-{{part}}-{{scatteritem}}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=part_list,
        code=code_digest("refine_labels"),
    message:
        "random walk for {wildcards.experiment}, seed {wildcards.seed},"
        " {wildcards.part} {wildcards.scatteritem}"
    shell:
        "exec python {input.script} --settings {input.settings} --index {params.index}"
        " --list {params.list:q} --shard {wildcards.scatteritem} --maps {input.maps}"
        " --weights {input.weights} --output {output} 2> {log}"
