# Needs: the configuration. Makes: the settings file of every stage, and of the data set.
# The scripts read these files and nothing else of the configuration.


rule write_stage_settings:
    output:
        f"{RUN}/{{stage}}/settings.json",
    params:
        text=stage_settings_text,
    log:
        f"logs/write_stage_settings/{LOGS}-{{stage}}.log",
    conda:
        "../envs/protoseg.yaml"
    localrule: True
    shell:
        "printf %s {params.text:q} > {output} 2> {log}"


rule write_dataset_settings:
    output:
        f"{INDEX}/settings.json",
    params:
        text=settings_text({"dataset": EXPERIMENTS.dataset}),
    log:
        f"logs/write_dataset_settings/{DATASET}.log",
    conda:
        "../envs/protoseg.yaml"
    localrule: True
    shell:
        "printf %s {params.text:q} > {output} 2> {log}"
