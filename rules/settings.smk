# Needs: the configuration. Makes: the settings file of every stage, and of the data set.
# The scripts read these files and nothing else of the configuration.


def stage_settings_text(wildcards):
    values = EXPERIMENTS.settings[wildcards.experiment][wildcards.stage]
    return settings_text({"seed": int(wildcards.seed), wildcards.stage: values})


rule write_stage_settings:
    output:
        f"{RUN}/{{stage}}/settings.json",
    params:
        text=stage_settings_text,
    localrule: True
    shell:
        "printf %s {params.text:q} > {output}"


rule write_dataset_settings:
    output:
        f"{INDEX}/settings.json",
    params:
        text=settings_text({"dataset": EXPERIMENTS.dataset}),
    localrule: True
    shell:
        "printf %s {params.text:q} > {output}"
