import pytest
import torch

from frugalclip.data.duplicates import thumbnails
from frugalclip.evaluation import baselines as module
from frugalclip.evaluation.baselines import MOST_ROWS, Baselines, TrainingImages, find_neighbours
from frugalclip.evaluation.descriptor_fit import DescriptorFit
from frugalclip.evaluation.zeroshot import zeroshot_task
from frugalclip.sources.open import open_data


def test_the_nearest_thumbnail_names_what_was_seen(squares):
    training = squares.where("split=train")
    neighbours = find_neighbours(training, training.captions(), thumbnails, most=MOST_ROWS)
    pixels, kept = thumbnails(squares.where("split=test|broken"))
    assert kept.tolist() == list(range(7))  # the broken image is not among them
    places, differences = neighbours.nearest(pixels, k=1)
    assert [neighbours.names[i][0] for i in places[:, 0].tolist()] == ["red"] * 3 + ["green"] * 2 + [
        "blue",
        "blue",
    ]
    assert float(differences[:6].max()) <= 2
    assert float(differences[6]) == pytest.approx((250 - 120) / 3, abs=1)
    scores = neighbours.scores(places, [["dark blue"], ["blue"], ["red"], ["teal"]])(torch.tensor([6, 0]))
    assert scores[0].argmax() == 1  # copies the label
    assert 0 < scores[0, 0] < 1  # shares a word with an unseen name
    assert scores[1].tolist() == [0, 0, 1, 0]


def test_more_voters_average_and_distances_equal_the_direct_ones():
    generator = torch.Generator().manual_seed(0)
    training = torch.randint(0, 256, (40, 768), generator=generator).float()
    queries = torch.randint(0, 256, (9, 768), generator=generator).float()
    neighbours = TrainingImages(training, [["cat"] if i % 2 else ["dog"] for i in range(40)], 40)
    places, differences = neighbours.nearest(queries, k=4, chunk=4)
    direct = (queries[:, None].double() - training[None].double()).square().sum(2)
    assert places.tolist() == direct.argsort(dim=1, stable=True)[:, :4].tolist()
    assert differences.tolist() == pytest.approx((queries - training[places[:, 0]]).abs().mean(1).tolist())
    scores = neighbours.scores(places, [["cat"], ["dog"]])(torch.arange(9))
    cats = (places % 2 == 1).float().mean(1)
    assert torch.allclose(scores, torch.stack([cats, 1 - cats], dim=1))


def test_copying_names_seen_concepts_of_an_unseen_style_as_often_as_is_known():
    emoji = open_data("sample", where="split=train,style=noto|twemoji|openmoji")
    training = emoji.where("style!=twemoji")
    neighbours = find_neighbours(training, training.captions(), thumbnails, most=MOST_ROWS)
    found = {}
    for condition in ("style=twemoji,is_flag=true", "style=twemoji,is_flag=false"):
        chosen = emoji.where(condition)
        task = zeroshot_task(chosen, emoji)
        places, _ = neighbours.nearest(thumbnails(chosen)[0], k=1)
        found[condition] = (
            task.metrics_of_scores(neighbours.scores(places, task.synonyms))["generalised_top1"],
            len(chosen),
        )
    (flags, number), (others, rest) = found.values()
    assert flags == pytest.approx(88, abs=1)  # every quality table of this project is read against these
    assert (flags * number + others * rest) / (number + rest) == pytest.approx(38, abs=1)


def test_training_images_are_thinned_evenly_and_counted(squares):
    neighbours = find_neighbours(squares.where("split=test"), [["x"], [], *[["y"]] * 5], thumbnails, most=3)
    assert (len(neighbours.names), neighbours.of) == (3, 6)


def test_evaluations_that_share_their_baselines_share_one_fit(squares, monkeypatch):
    fits, described = [], []

    class Counted(DescriptorFit):
        def __init__(self, features, names):
            fits.append(names)
            super().__init__(features, names)

    def counted(training, names, describe, *, most):
        described.append(describe)
        return find_neighbours(training, names, describe, most=most)

    monkeypatch.setattr(module, "DescriptorFit", Counted)
    monkeypatch.setattr(module, "find_neighbours", counted)
    training, tested = squares.where("split=train"), squares.where("split=test")
    task, names = zeroshot_task(tested, squares), training.captions()

    def measure(name, scorer, rows):
        return task.metrics_of_scores(scorer(task.synonyms), rows)

    shared = Baselines(training)
    first = shared.measure(tested, names, measure)
    again = shared.measure(tested, [list(texts) for texts in names], measure)  # equal names, other lists
    assert (len(fits), len(described)) == (1, 2)  # pixels and features
    alone = Baselines(training).measure(tested, names, measure)
    assert first == again == alone
    voters = {f"{kind}_nn_{k}" for kind in ("pixel", "feature") for k in (1, 10)}
    assert set(first) == {*voters, "feature_fit", "about"}
    shared.measure(tested, [["thing"] for _ in names], measure)
    assert (len(fits), len(described)) == (3, 6)  # other names are another fit
    assert shared.measure(tested, [[] for _ in names], measure) == {}
