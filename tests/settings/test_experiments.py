"""Experiments as differences: who owns a stage, sweeps, defaults, and problems told all at once."""

from __future__ import annotations

from typing import Any

import pytest

from protoseg.affinity.affinity import source_grid
from protoseg.affinity.walk import chebyshev_coefficients
from protoseg.settings.classifier import ClassifierSettings
from protoseg.settings.experiments import Experiments, all_upstream, read_experiments
from protoseg.settings.schema import STAGES


def experiments_of(experiments: dict[str, Any], **rest: Any) -> Experiments:
    found, problems = read_experiments({"experiments": experiments, **rest})
    assert problems == []
    return found


def problems_of(experiments: Any, **rest: Any) -> list[str]:
    return read_experiments({"experiments": experiments, **rest})[1]


def owners(experiments: Experiments, name: str) -> dict[str, str]:
    return {stage: experiments.owner(name, stage) for stage in STAGES}


def test_defaults_are_those_of_the_settings_classes() -> None:
    found = experiments_of({"cam": None}, defaults={"maps": {"scales": [1.0]}})
    assert found.settings["cam"]["classifier"]["epochs"] == ClassifierSettings().epochs
    assert found.settings["cam"]["classifier"]["long_side"] == [320, 640]
    assert found.settings["cam"]["maps"]["scales"] == [1.0]
    assert (found.seeds, found.dataset["name"], found.titles["cam"]) == ((0,), "demo", "cam")


def test_a_change_owns_its_stage_and_everything_after_it() -> None:
    found = experiments_of(
        {"cam": {}, "crf": {"base": "cam", "pseudo_labels": {"iterations": 3}, "title": "t"}}
    )
    unchanged = ["classifier", "maps"]
    expected = {stage: "cam" if stage in unchanged else "crf" for stage in STAGES}
    assert owners(found, "crf") == expected
    assert set(owners(found, "cam").values()) == {"cam"}


def test_the_walk_goes_up_several_bases_and_past_values_set_back() -> None:
    found = experiments_of(
        {
            "a": {},
            "b": {"base": "a", "maps": {"scales": [1.0]}},
            "c": {"base": "b", "title": "same"},
            "d": {"base": "c", "predictions": {"flip": True}},
            "back": {"base": "c", "maps": {"scales": [1.0, 0.5, 1.5, 2.0]}},
        }
    )
    assert found.owner("c", "segmenter") == "b"
    assert found.owner("d", "classifier") == "a"
    assert found.owner("d", "segmenter") == "b"
    assert found.owner("d", "predictions") == "d"
    # Through b and c, whose maps differ, nothing is shared any more.
    assert found.owner("back", "maps") == "back"


def test_ground_truth_segmenter_needs_nothing_before_it() -> None:
    full = {"segmenter": {"labels": "ground_truth"}}
    found = experiments_of(
        {
            "full": full,
            "other_maps": {"base": "full", "classifier": {"prototypes": "image"}},
        }
    )
    assert all_upstream("predictions", found.settings["full"]) == {"segmenter", "predictions"}
    assert found.owner("other_maps", "predictions") == "full"
    assert found.owner("other_maps", "refined_labels") == "other_maps"


def test_weights_of_the_classifier_are_upstream() -> None:
    full = {"segmenter": {"labels": "ground_truth", "weights": "classifier"}}
    found = experiments_of(
        {"full": full, "sipe": {"base": "full", "classifier": {"prototypes": "image"}}},
        defaults={"segmenter": {"backbone": "resnet50"}},
    )
    assert all_upstream("segmenter", found.settings["full"]) == {"segmenter", "classifier"}
    assert found.owner("sipe", "segmenter") == "sipe"


def test_labels_decide_what_the_segmenter_reads() -> None:
    found = experiments_of({"crf": {"segmenter": {"labels": "pseudo_labels"}}})
    assert found.upstream("crf", "segmenter") == ("pseudo_labels",)
    assert "affinity" not in all_upstream("predictions", found.settings["crf"])


def test_sweep_makes_every_combination() -> None:
    found = experiments_of(
        {
            "s": {
                "classifier": {"prototypes": "image"},
                "sweep": {"maps.background_factor": [0.5, 1.0], "maps.scales": [[1.0], [0.5, 1.0]]},
            }
        }
    )
    names = [f"s__background_factor={f}__scales={s}" for f in (0.5, 1.0) for s in (1.0, "0.5-1.0")]
    assert found.names == ["s", *names]
    last = found.settings[names[-1]]
    assert (last["maps"]["background_factor"], last["maps"]["scales"]) == (1.0, [0.5, 1.0])
    assert last["classifier"]["prototypes"] == "image"
    assert found.owner(names[-1], "classifier") == "s"
    assert found.owner(names[0], "maps") == names[0]


def test_every_problem_at_once_with_its_path_and_the_nearest_name() -> None:
    problems = problems_of(
        {
            "cam": {"classifer": {}, "classifier": {"epohcs": 3, "crop": "big"}},
            "sipe": {"base": "cma", "classifier": {"prototypes": "imag"}},
            "later": {"base": "sipe", "maps": {"scales": []}},
            "cam2": {"base": "cam"},
        },
        dataset={"clases": ["cat"]},
        defaults={"segmenter": {"learning_rate": 0}, "map": {}},
    )
    for expected in (
        "dataset.clases: unknown setting; did you mean classes?",
        "defaults.map: unknown setting; did you mean maps?",
        "defaults.segmenter.learning_rate: 0 is less than",
        "experiments.cam.classifer: unknown setting; did you mean classifier?",
        "experiments.cam.classifier.epohcs: unknown setting; did you mean epochs?",
        "experiments.cam.classifier.crop: 'big' is not of type 'integer'",
        "experiments.sipe.base: 'cma' is not an experiment; did you mean cam?",
        "experiments.sipe.classifier.prototypes: 'imag' is not one of",
        "experiments.later.maps.scales: [] should be non-empty",
    ):
        assert sum(problem.startswith(expected) for problem in problems) == 1, (expected, problems)
    assert len(problems) == 9


def test_problems_of_sweeps() -> None:
    problems = problems_of(
        {"s": {"sweep": {"maps.scale": [1], "maps.precision": "float32", "classifier.crop": [1]}}}
    )
    assert "experiments.s.sweep.maps.scale: unknown setting; did you mean maps.scales?" in problems
    assert any(problem.startswith("experiments.s.sweep.maps.precision:") for problem in problems)


def test_circles_of_bases_end() -> None:
    problems = problems_of({"a": {"base": "b"}, "b": {"base": "a"}, "c": {"base": "c"}})
    assert len(problems) == 2
    assert problems[0] == "experiments.a.base: 'b' leads in a circle"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"maps": {"source": "prototypes"}}, "maps.source: prototypes need side branches"),
        (
            {"classifier": {"refinement": ["pamr", "prototypes"]}},
            "classifier.refinement: the steps refine the IS-CAM, which only",
        ),
        (
            {"classifier": {"prototypes": "image", "refinement": ["prototypes", "pamr"]}},
            "classifier.refinement: the last step is pamr, which carries no gradient",
        ),
        (
            {"classifier": {"attention": "sfa"}},
            "classifier.attention: it weighs the features of prototypes",
        ),
        (
            {"classifier": {"prototypes": "pairs", "attention": "self"}},
            "classifier.attention: self attention reads detached features",
        ),
        (
            {"classifier": {"prototypes": "image", "attention": "sfa", "consistency": False}},
            "classifier.attention: it learns from the consistency loss alone",
        ),
        (
            {
                "classifier": {
                    "prototypes": "image",
                    "attention": "sfa",
                    "prototype_feature": "semantic",
                },
                "maps": {"structure_feature": "semantic"},
            },
            "classifier.attention: it weighs the hierarchical feature",
        ),
        (
            {"classifier": {"prototypes": "image", "prototype_feature": "semantic"}},
            "maps.structure_feature: nothing trains the hierarchical feature",
        ),
        (
            {"classifier": {"prototypes": "pairs", "pair_levels": [4, 2]}},
            "classifier.pair_levels: [4, 2] is not ascending",
        ),
        (
            {"classifier": {"prototypes": "pairs", "batch_size": 15}},
            "classifier.batch_size: 15 images hold no pairs",
        ),
        ({"maps": {"source": "prototypes"}, "classifier": {"prototypes": "pairs"}}, "maps.source"),
        ({"affinity": {"weights": "classifier", "backbone": "resnet101"}}, "affinity.weights"),
        ({"segmenter": {"weights": "classifier"}}, "segmenter.weights"),
        ({"segmenter": {"head": "large_fov"}}, "segmenter.rates: [6, 12, 18, 24] with head"),
        (
            {"segmenter": {"head": "deeplab_v3", "rates": [1, 2, 3], "batch_size": 3}},
            "segmenter.batch_size: 3 in 2 parts (accumulate) with head: deeplab_v3",
        ),
        (
            {"segmenter": {"batch_size": 8, "accumulate": 9}},
            "segmenter.accumulate: 9 parts of batch_size 8; lower it",
        ),
        ({"segmenter": {"head": "deeplab_v3"}}, "segmenter.rates: [6, 12, 18, 24] with head"),
        ({"segmenter": {"train_scales": [1, 0.5]}}, "segmenter.train_scales: [1, 0.5] beside"),
        ({"segmenter": {"train_scales": [0.5, 0.5]}}, "segmenter.train_scales: [0.5, 0.5]"),
        ({"affinity": {"crop": 72}}, "affinity.crop: 72 pixels are 18 cells"),
        (
            {"refined_labels": {"log2_steps": 10}},
            "refined_labels.degree: 96 leaves out too much of the 1024 steps of log2_steps: 10; "
            "set it to 192",
        ),
        (
            {"segmenter": {"init": "x", "weights": "classifier", "backbone": "resnet50"}},
            "segmenter.init: it takes the place of weights",
        ),
        (
            {"maps": {"class_prototype_share": 0.5}},
            "maps.class_prototype_share: it blends into the image's own prototypes",
        ),
        (
            {
                "classifier": {"prototypes": "image"},
                "maps": {"class_prototype_share": 0.5, "source": "cam"},
            },
            "maps.class_prototype_share",
        ),
        ({"classifier": {"long_side": [640, 320]}}, "classifier.long_side: 640 is above 320"),
        ({"segmenter": {"scale": [1.5, 0.5]}}, "segmenter.scale: 1.5 is above 0.5"),
    ],
)
def test_impossible_combinations_are_told_once(changes: dict[str, Any], expected: str) -> None:
    problems = problems_of({"x": changes, "y": {"base": "x", "predictions": {"flip": True}}})
    assert len(problems) == 1
    assert problems[0].startswith(f"experiments.x.{expected}")


def test_the_least_that_is_possible() -> None:
    least = {"affinity": {"crop": 73}, "refined_labels": {"log2_steps": 6, "degree": 32}}
    assert problems_of({"x": least}) == []
    assert source_grid(19, 19, 10) == (10, 1)
    assert abs(sum(chebyshev_coefficients(64, 32)) - 1) < 1e-4


def test_orders_of_refinement_are_a_sweep() -> None:
    orders = [["prototypes"], ["pamr", "prototypes"], ["prototypes", "pamr", "prototypes"]]
    sipe = {"classifier": {"prototypes": "image"}, "sweep": {"classifier.refinement": orders}}
    found = experiments_of({"sipe": sipe})
    assert found.settings["sipe"]["classifier"]["refinement"] == []
    assert [found.settings[name]["classifier"]["refinement"] for name in found.names[1:]] == orders
    assert problems_of({"x": {"classifier": {"prototypes": "image", "refinement": ["crf"]}}}) == [
        "experiments.x.classifier.refinement.0: 'crf' is not one of ['pamr', 'prototypes']"
    ]


@pytest.mark.parametrize(
    "experiments", [None, {}, 3, ["cam"], {"cam": 3}, {"cam": {"classifier": 3}}, {"a/b": {}}]
)
def test_malformed_experiments_are_problems(experiments: Any) -> None:
    found, problems = read_experiments({"experiments": experiments, "dataset": None})
    assert found.dataset["kind"] == "demo"
    assert problems or experiments in (3, ["cam"])  # not a mapping: told by the whole's schema
