"""Outcomes of trials as blocks: samples are matched by their id, a baseline is paired with every run."""

from frugalclip.comparison.outcomes import baseline_blocks, blocks_of


def outcome(hits, weight=None):
    return {"id": list(hits), "group": [f"f{i}" for i in hits], "hit": list(hits.values()), "weight": weight}


def trials(make_trial, *runs):
    return [
        make_trial(fold=fold, seed_index=seed, record={"metrics": {"unseen": {"outcome": found}}})
        for fold, seed, found in runs
    ]


def test_samples_are_matched_by_id_and_runs_ordered_by_seed(make_trial):
    second, first = outcome({"b": 0.5, "a": 1.0}), outcome({"a": 0.0, "c": 1.0, "b": 1.0})
    found = blocks_of(trials(make_trial, ("ink", 1, second), ("ink", 0, first), ("oil", 0, first)), "unseen")
    assert set(found) == {"ink", "oil"}
    block = found["ink"]
    assert (block.ids.tolist(), block.groups.tolist(), block.seeds) == (["a", "b"], ["fa", "fb"], (0, 1))
    assert block.values.tolist() == [[0, 100], [100, 50]]
    assert blocks_of(trials(make_trial, ("ink", 0, first)), "seen") == {}


def test_weights_are_those_of_the_samples(make_trial):
    found = blocks_of(trials(make_trial, ("", 0, outcome({"b": 1.0, "a": 0.0}, weight=[3.0, 1.0]))), "unseen")
    assert found[""].weights.tolist() == [1, 3]
    assert found[""].means().tolist() == [75]


def test_a_baseline_is_repeated_for_every_run(make_trial):
    runs = [("ink", seed, outcome({"a": 1.0, "b": 0.0})) for seed in (0, 2)]
    own = blocks_of(trials(make_trial, *runs, ("oil", 0, outcome({"a": 1.0}))), "unseen")
    found = baseline_blocks({"ink": outcome({"b": 1.0, "a": 0.0})}, own)
    assert set(found) == {"ink"}
    assert (found["ink"].values.tolist(), found["ink"].seeds) == ([[0, 100], [0, 100]], (0, 2))
