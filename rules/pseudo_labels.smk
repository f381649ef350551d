# Needs: the maps. Makes: pseudo_labels/{scored,rest}.h5 (scored labels, denseCRF) and
# pseudo_labels/ir_{scored,rest}.h5 (labels that the affinity network learns from).


rule make_pseudo_labels:
    input:
        INDEX_FILES,
        script=script("make_pseudo_labels"),
        settings=f"{RUN}/pseudo_labels/settings.json",
        maps=lambda wildcards: stage_files("maps", f"{wildcards.part}.h5")(wildcards),
    output:
        labels=temp(f"{RUN}/pseudo_labels/shards/{{part}}-{{scatteritem}}.h5"),
        ir_labels=temp(f"{RUN}/pseudo_labels/shards/ir_{{part}}-{{scatteritem}}.h5"),
    log:
        f"logs/make_pseudo_labels/{LOGS}-{{part}}-{{scatteritem}}.log",
    benchmark:
        f"logs/make_pseudo_labels/{LOGS}-{{part}}-{{scatteritem}}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=part_list,
        code=code_digest("make_pseudo_labels"),
    message:
        "denseCRF for {wildcards.experiment}, seed {wildcards.seed},"
        " {wildcards.part} {wildcards.scatteritem}"
    shell:
        "exec python {input.script} --settings {input.settings} --index {params.index}"
        " --list {params.list:q} --shard {wildcards.scatteritem} --maps {input.maps}"
        " --labels {output.labels} --ir-labels {output.ir_labels} --workers {threads} 2> {log}"
