"""The first sentence of a report."""

import pytest

from frugalclip.comparison.answer import answer

MEANS = {"base": 30.0, "good": 34.1}


def verdict(arm, word, **test):
    known = {"value": 4.1, "interval": [2.0, 6.2], "p_holm": 0.01, "compared": [34.1, 30.0], "runs": 3}
    return {"arm": arm, "verdict": word, **known, **test}


def read(*tests):
    return answer(tests, MEANS, reference="base", primary="unseen")


def test_two_arms_have_values_interval_and_p():
    assert read(verdict("good", "better")) == (
        "good is better than base: 34.1 % against 30.0 % on unseen "
        "(4.1 points more, 95 % interval +2.0 to +6.2, p = 0.010)."
    )
    unknown = verdict("good", "not distinguishable", value=-4.1, interval=[-9.0, 1.0], p_holm=0.4)
    assert read(unknown).startswith("good and base are not distinguishable: 34.1 % against 30.0 %")
    assert "4.1 points less, 95 % interval −9.0 to +1.0" in read(unknown)


def test_one_seed_and_no_run_are_undecided():
    once = verdict("good", "one seed: cannot say", p_holm=None, interval=None)
    assert read(once).startswith("One seed: cannot say whether good is better than base: 34.1 %")
    assert read(verdict("good", "no finished pair of runs", value=None)).startswith("Undecided: no pair")


@pytest.mark.parametrize(
    ("verdicts", "sentence"),
    [
        ({"a": "better", "b": "better", "c": "worse"}, "a, b are better; c is worse"),
        (
            {"a": "not distinguishable", "b": "no finished pair of runs"},
            "a is not distinguishable; undecided for b: no finished pair of runs",
        ),
    ],
)
def test_several_arms_are_grouped_by_their_verdict(verdicts, sentence):
    tests = [verdict(arm, word) for arm, word in verdicts.items()]
    assert read(*tests) == f"Against base on unseen: {sentence}."


def test_values_are_those_of_the_pairs_that_the_difference_is_of():
    once = verdict("good", "one seed: cannot say", p_holm=None, interval=None, value=1.5, runs=1)
    assert read(once | {"compared": [31.5, 30.0]}).endswith(
        "31.5 % against 30.0 % on unseen, on the 1 run that both have finished, 1.5 points more."
    )
