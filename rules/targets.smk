# Target rules: one per stage of the flow, and one per experiment. None of them runs anything.
localrules:
    classifier,
    maps,
    pseudo_labels,
    affinity,
    refined_labels,
    segmenter,
    predictions,
    predictions_crf,
    test_predictions,
    submission,
    tables,
    figures,
    report,
    background_factors,


rule classifier:
    input:
        every("classifier", "weights.pt"),


rule maps:
    input:
        every("maps", "metrics.json"),


rule pseudo_labels:
    input:
        every("pseudo_labels", "metrics.json"),


rule affinity:
    input:
        every("affinity", "weights.pt"),


rule refined_labels:
    input:
        every("refined_labels", "metrics.json"),


rule segmenter:
    input:
        every("segmenter", "weights.pt"),


rule predictions:
    input:
        every("predictions", "metrics.json"),


rule predictions_crf:
    input:
        every("predictions_crf", "metrics.json"),


rule test_predictions:
    input:
        test_results("predictions", "test.h5"),


rule submission:
    input:
        test_results("predictions_crf", "submission.tgz"),


rule tables:
    input:
        expand("results/tables/{table}.csv", table=CONFIGURATION.tables),


rule figures:
    input:
        expand("results/figures/{figure}.png", figure=FIGURES),


rule report:
    input:
        rules.make_report.output,


rule background_factors:
    input:
        every(
            "maps",
            "background_factors.csv",
            [
                name
                for name in EXPERIMENTS.names
                if EXPERIMENTS.settings[name]["classifier"]["prototypes"] == "image"
                and EXPERIMENTS.settings[name]["maps"]["seeds"] == "structure"
            ],
        ),


for name in EXPERIMENTS.names:

    rule:
        name:
            f"experiment_{name}"
        input:
            experiment_metrics(name),
        localrule: True
