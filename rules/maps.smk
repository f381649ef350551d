# Needs: the classifier. Makes: maps/scored.h5 and maps/rest.h5, multi-scale localization maps; where
# classes share prototypes over images, maps/class_prototypes.npz before them.

# Doubled braces, because gather fills {scatteritem} first.
SHARD = f"{RUN}/{{stage}}/shards/{{file}}".replace("{", "{{").replace("}", "}}")


rule average_prototypes:
    input:
        INDEX_FILES,
        script=script("average_prototypes"),
        settings=f"{RUN}/maps/settings.json",
        weights=stage_files("classifier", "weights.pt"),
    output:
        f"{RUN}/maps/class_prototypes.npz",
    log:
        f"logs/average_prototypes/{LOGS}.log",
    benchmark:
        f"logs/average_prototypes/{LOGS}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=EXPERIMENTS.dataset["train_list"],
        code=code_digest("average_prototypes"),
    message:
        "average the prototypes of {wildcards.experiment}, seed {wildcards.seed}, by class"
    shell:
        "exec python {input.script} --settings {input.settings} --index {params.index}"
        " --list {params.list:q} --weights {input.weights} --output {output} 2> {log}"


rule export_maps:
    input:
        INDEX_FILES,
        script=script("export_maps"),
        settings=f"{RUN}/maps/settings.json",
        weights=stage_files("classifier", "weights.pt"),
        class_prototypes=class_prototypes,
    output:
        temp(f"{RUN}/maps/shards/{{part}}-{{scatteritem}}.h5"),
    log:
        f"logs/export_maps/{LOGS}-{{part}}-{{scatteritem}}.log",
    benchmark:
        f"logs/export_maps/{LOGS}-{{part}}-{{scatteritem}}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=part_list,
        code=code_digest("export_maps"),
    message:
        "export maps of {wildcards.experiment}, seed {wildcards.seed},"
        " {wildcards.part} {wildcards.scatteritem}"
    shell:
        "exec python {input.script} --settings {input.settings} --index {params.index}"
        " --list {params.list:q} --shard {wildcards.scatteritem} --weights {input.weights}"
        " --class-prototypes {input.class_prototypes} --output {output} 2> {log}"


rule merge_shards:
    input:
        parts=gather.split(f"{SHARD}-{{scatteritem}}.h5"),
        script=script("merge_shards"),
    output:
        f"{RUN}/{{stage}}/{{file}}.h5",
    log:
        f"logs/merge_shards/{LOGS}-{{stage}}-{{file}}.log",
    wildcard_constraints:
        file="[a-z_]+",
    conda:
        "../envs/protoseg.yaml"
    params:
        kind=result_kind,
    message:
        "merge shards of {wildcards.stage}/{wildcards.file}.h5 of {wildcards.experiment}"
    shell:
        "exec python {input.script} --kind {params.kind} --parts {input.parts}"
        " --output {output} 2> {log}"


rule sweep_background_factor:
    input:
        INDEX_FILES,
        script=script("sweep_background_factor"),
        settings=f"{RUN}/maps/settings.json",
        weights=stage_files("classifier", "weights.pt"),
        class_prototypes=class_prototypes,
    output:
        f"{RUN}/maps/background_factors.csv",
    log:
        f"logs/sweep_background_factor/{LOGS}.log",
    benchmark:
        f"logs/sweep_background_factor/{LOGS}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        index=index_folder,
        list=EXPERIMENTS.dataset["maps_list"],
        factors=CONFIGURATION.background_factors,
        code=code_digest("sweep_background_factor"),
    message:
        "score the maps of {wildcards.experiment} at several background factors, in one pass"
    shell:
        "exec python {input.script} --settings {input.settings} --index {params.index}"
        " --list {params.list:q} --weights {input.weights}"
        " --class-prototypes {input.class_prototypes} --factors {params.factors}"
        " --output {output} 2> {log}"
