import pytest

from frugalclip.sources.open import open_data


@pytest.fixture(scope="module")
def benchmark(imported):
    return imported("closing_fit")


def test_differences_are_paired_by_image_over_folds_and_seeds(benchmark):
    """The fit names every second image, contrast every fourth: 25 points apart, whatever the run."""
    folds = [benchmark.HeldOutStyle(open_data("sample"), style) for style in benchmark.STYLES]
    assert {split: len(task.rows) for split, task in folds[0].tasks.items()} == {"val": 161, "test": 184}
    assert len(folds[2].training) == 3038 and "twemoji" not in folds[2].training.field("style")

    def found(fold, every):
        ids = {split: task.ids[::every] for split, task in fold.tasks.items()}
        return {
            split: {"top1": 100 / every, "top5": 50.0, "hits": dict.fromkeys(names, 1.0)}
            for split, names in ids.items()
        }

    every = {benchmark.ARM: 2, "contrast alone": 4, "fit, one step": 2}
    runs = [
        {"arm": arm, "held_out": fold.style, "seed": seed, **found(fold, every[arm])}
        for fold in folds
        for arm in benchmark.ARMS
        for seed in (1, 0)
    ]
    baselines = {
        fold.style: {split: {"feature_fit": one} for split, one in found(fold, 4).items()} for fold in folds
    }
    summary = benchmark.summary({"runs": runs, "baselines": baselines}, folds)["test"]
    assert summary["top1"] == {
        benchmark.ARM: 50,
        "contrast alone": 25,
        "fit, one step": 50,
        "feature_fit": 25,
    }
    tests = summary["tests"]
    assert {name: one["value"] for name, one in tests.items()} == pytest.approx(
        {"contrast alone": 25, "fit, one step": 0, "feature_fit": 25}
    )
    assert tests["feature_fit"]["folds"] == 3 and tests["feature_fit"]["runs"] == 6
    assert tests["contrast alone"]["verdict"] == "better"
    assert tests["fit, one step"]["verdict"] == "not distinguishable"
