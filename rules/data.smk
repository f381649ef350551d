# Needs: the images (or nothing, for the demo set). Makes: the checked index of the data set.


rule draw_demo_set:
    input:
        script=script("draw_demo_set"),
        settings=f"{INDEX}/settings.json",
    output:
        expand(
            "{root}/ImageSets/Segmentation/{list}.txt",
            root=EXPERIMENTS.dataset["root"],
            list=["train_aug", "train", "val"],
        ),
    log:
        f"logs/draw_demo_set/{DATASET}.log",
    benchmark:
        f"logs/draw_demo_set/{DATASET}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        code=code_digest("draw_demo_set"),
    message:
        "draw the demo set"
    shell:
        "exec python {input.script} --settings {input.settings} 2> {log}"


# COCO's masks are drawn beside the index, undeclared: Snakemake would delete them when a job fails.
rule index_dataset:
    input:
        script=script("index_dataset"),
        settings=f"{INDEX}/settings.json",
        demo=rules.draw_demo_set.output if EXPERIMENTS.dataset["kind"] == "demo" else [],
    output:
        INDEX_FILES,
    log:
        f"logs/index_dataset/{DATASET}.log",
    benchmark:
        f"logs/index_dataset/{DATASET}.tsv"
    conda:
        "../envs/protoseg.yaml"
    params:
        folder=output_folder,
        code=code_digest("index_dataset"),
    message:
        "check every file of the data set and index it"
    shell:
        "exec python {input.script} --settings {input.settings} --output {params.folder}"
        " --workers {threads} 2> {log}"
