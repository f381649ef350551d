# Needs: metrics, histories, maps and labels. Makes: results/tables, results/figures, report.html.


include: "report_specs.smk"


rule write_spec:
    output:
        "results/specs/{kind}/{name}.json",
    log:
        "logs/write_spec/{kind}-{name}.log",
    wildcard_constraints:
        kind="tables|figures|report",
    localrule: True
    conda:
        "../envs/protoseg.yaml"
    params:
        text=spec_text,
    shell:
        "printf %s {params.text:q} > {output} 2> {log}"


rule make_table:
    input:
        table_metrics,
        script=script("make_table"),
        spec="results/specs/tables/{table}.json",
    output:
        multiext("results/tables/{table}", ".csv", ".md", ".tex", ".html"),
    log:
        "logs/make_table/{table}.log",
    conda:
        "../envs/protoseg.yaml"
    params:
        code=code_digest("make_table"),
        folder=output_folder,
    message:
        "table {wildcards.table}"
    shell:
        "exec python {input.script} --spec {input.spec} --output {params.folder} 2> {log}"


rule draw_curves:
    input:
        figure_files,
        script=script("draw_curves"),
        spec="results/specs/figures/{figure}.json",
    output:
        "results/figures/{figure}.png",
    log:
        "logs/draw_curves/{figure}.log",
    wildcard_constraints:
        figure="curves_[a-z]+|threshold_sweep",
    conda:
        "../envs/protoseg.yaml"
    params:
        code=code_digest("draw_curves"),
    message:
        "figure {wildcards.figure}"
    shell:
        "exec python {input.script} --spec {input.spec} --output {output} 2> {log}"


rule draw_panels:
    input:
        figure_files,
        script=script("draw_panels"),
        spec="results/specs/figures/{figure}.json",
    output:
        "results/figures/{figure}.png",
    log:
        "logs/draw_panels/{figure}.log",
    wildcard_constraints:
        figure="panels",
    conda:
        "../envs/protoseg.yaml"
    params:
        code=code_digest("draw_panels"),
    message:
        "figure {wildcards.figure}"
    shell:
        "exec python {input.script} --spec {input.spec} --output {output} 2> {log}"


rule make_report:
    input:
        script=script("make_report"),
        template=repository_file("workflow_scripts/protoseg/report/template.html"),
        spec="results/specs/report/report.json",
        tables=expand("results/tables/{table}.html", table=CONFIGURATION.tables),
        figures=expand("results/figures/{figure}.png", figure=FIGURES),
    output:
        "results/report.html",
    log:
        "logs/make_report/report.log",
    conda:
        "../envs/protoseg.yaml"
    params:
        code=code_digest("make_report"),
    message:
        "report"
    shell:
        "exec python {input.script} --spec {input.spec} --output {output}"
        ' --commit "$(git -C $(dirname {input.script}) rev-parse --short HEAD)" 2> {log}'
