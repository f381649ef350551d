# Needs: the configuration. Makes: the settings file of every stage, and of the data set.
# The scripts read these files and nothing else of the configuration.


rule write_stage_settings:
    output:
        f"{RUN}/{{stage}}/settings.json",
    log:
        f"logs/write_stage_settings/{LOGS}-{{stage}}.log",
    localrule: True
    conda:
        "../envs/protoseg.yaml"
    params:
        text=stage_settings_text,
    shell:
        "printf %s {params.text:q} > {output} 2> {log}"


rule write_dataset_settings:
    output:
        f"{INDEX}/settings.json",
    log:
        f"logs/write_dataset_settings/{DATASET}.log",
    localrule: True
    conda:
        "../envs/protoseg.yaml"
    params:
        text=settings_text({"dataset": EXPERIMENTS.dataset}),
    shell:
        "printf %s {params.text:q} > {output} 2> {log}"
