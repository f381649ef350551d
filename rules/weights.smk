# Needs: weights files, or torchvision's download. Makes: results/weights/{backbone}/{file}.json, the
# proof that they fit. Runs first, so that a wrong file costs no hours.


rule check_weights:
    input:
        file=weights_file,
        script=script("check_weights"),
    output:
        "results/weights/{backbone}/{weights}.json",
    log:
        "logs/check_weights/{backbone}-{weights}.log",
    priority: 100
    conda:
        "../envs/protoseg.yaml"
    params:
        weights=lambda wildcards: WEIGHTS[wildcards.weights],
        code=code_digest("check_weights"),
    message:
        "check that {params.weights} fits {wildcards.backbone}"
    shell:
        "exec python {input.script} --backbone {wildcards.backbone} --weights {params.weights:q}"
        " --output {output} 2> {log}"
