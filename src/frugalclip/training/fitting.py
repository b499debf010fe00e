"""Heads that are fitted in closed form before the first step, to what frozen backbones said of the training data."""

import numpy as np
import torch

from frugalclip.core.errors import RecipeError
from frugalclip.core.types import CachedFeatures
from frugalclip.loading.loader import Loader
from frugalclip.towers.caption_words import CaptionWords
from frugalclip.towers.dual import DualEncoder
from frugalclip.towers.fitted import KernelRidge, Whitening
from frugalclip.towers.lexical import LexicalHead
from frugalclip.towers.pretrained import IdentityHead

MOST_PICTURES = 50_000  # evenly spaced ones tell directions as well as all, and are held at once
CENTRED_PICTURES = 1024  # a mean needs fewer
STARTING_PICTURES = 8192  # with all their patches


def fit_heads(network: DualEncoder, loader: Loader) -> list[str]:
    """Fit the heads of a network that want it: the pictures' first, then the texts' towards where the pictures are.

    Args:
        network: its heads are filled in place.
        loader: knows the stores, and how often each text is drawn with each picture.

    Returns:
        What was fitted, for the reader.

    Raises:
        RecipeError: where what the fit needs is not stored.
    """
    _centre_texts(network, loader)
    _start_images(network, loader)
    heads = {
        side: tower.head
        for side, tower in network.pretrained_towers().items()
        if isinstance(tower.head, Whitening | CaptionWords | KernelRidge)
    }
    if not heads:
        return []
    stored = loader.stored
    if stored is None:
        raise RecipeError(
            "a head that is fitted in closed form needs a frozen image backbone whose pictures are stored; set store.pictures=true."
        )
    rows = loader.rows
    notes = []
    if isinstance(head := heads.get("image"), Whitening):
        looked_at = _some(rows, MOST_PICTURES)
        head.fit(stored.views(looked_at))
        notes.append(f"the image head is fitted to {len(looked_at):,} pictures")
    if isinstance(head := heads.get("image"), CaptionWords):
        notes.append(_fit_words(head, network, loader))
    if isinstance(head := heads.get("text"), KernelRidge):
        notes.append(_fit_texts(head, network, loader))
    return notes


def _centre_texts(network: DualEncoder, loader: Loader) -> None:
    """Give text heads that take a mean off the mean of the training texts, each counted once."""
    text = network.pretrained_towers().get("text")
    head = None if text is None else text.head
    is_wanted = (isinstance(head, IdentityHead) and head.mean is not None) or (
        isinstance(head, LexicalHead) and head.config.centre
    )
    if not is_wanted:
        return
    if not loader.texts.is_stored:
        raise RecipeError(
            "a head with centre: true takes the mean of what a frozen text backbone says; leave model.text.tune and model.text.lora out."
        )
    output = loader.texts.output(np.unique(loader.texts.chances(loader.caption_view)[1])).to(
        network.log_scale.device
    )
    if isinstance(head, IdentityHead):
        head.fit(output)
    elif isinstance(head, LexicalHead):
        with torch.no_grad():
            head.set_centre(sum(head.scores(part).sum(dim=0) for part in output.split(256)) / len(output))  # pyright: ignore[reportArgumentType]


def _start_images(network: DualEncoder, loader: Loader) -> None:
    """Let the mapper of a lexical image head start from captions, and give the head the mean of its first scores, where these are asked for."""
    image = network.pretrained_towers().get("image")
    if (
        image is None
        or not isinstance(image.head, LexicalHead)
        or not (image.head.config.centre or image.head.config.start == "captions")
    ):
        return
    if loader.stored is None:
        raise RecipeError(
            "model.image.head.centre and start look at what a frozen backbone says of the pictures; set store.pictures=true, or leave them out."
        )
    device = network.log_scale.device
    if image.head.config.start == "captions":
        if not loader.texts.is_stored:
            raise RecipeError(
                "model.image.head.start=captions needs what a frozen text backbone says; leave model.text.tune and model.text.lora out."
            )
        rows, texts, chances = _drawn(loader)
        places = _some(np.unique(rows), STARTING_PICTURES)
        is_looked_at = np.isin(rows, places)
        rows, texts, chances = (
            rows[is_looked_at],
            texts[is_looked_at],
            torch.from_numpy(chances[is_looked_at]).double()[:, None],
        )
        output = loader.texts.output(texts).double()
        if output.shape[-1] != image.head.codebook.shape[1]:
            raise RecipeError(
                f"start=captions maps to states of {image.head.codebook.shape[1]}, and the text backbone gives {output.shape[-1]}; leave start out."
            )
        of = torch.from_numpy(np.searchsorted(places, rows))
        states = torch.zeros(len(places), output.shape[1], dtype=output.dtype).index_add_(
            0, of, output * chances
        )
        total = torch.zeros(len(places), 1, dtype=output.dtype).index_add_(0, of, chances)
        tokens = torch.cat(
            [loader.stored.mean(part).to(device) for part in np.array_split(places, -(-len(places) // 512))]
        )
        image.head.start_mapper(tokens, (states / total).to(device))
    if not image.head.config.centre:
        return
    rows = _some(loader.rows, CENTRED_PICTURES)
    with torch.no_grad():
        parts = [
            image.head.scores(loader.stored.mean(part).to(device)).double().sum(dim=0)
            for part in np.array_split(rows, -(-len(rows) // 64))
        ]
        image.head.set_centre(torch.stack(parts).sum(dim=0).div(len(rows)))


def _some(rows: np.ndarray, most: int) -> np.ndarray:
    """Evenly spaced ones, where there are more than that."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).round().astype(np.int64))]


def _fit_words(head: CaptionWords, network: DualEncoder, loader: Loader) -> str:
    text = network.pretrained_towers().get("text")
    if text is None or not isinstance(text.head, LexicalHead) or not loader.texts.is_stored:
        raise RecipeError(
            "head.kind caption_words gives pictures the words of captions; set model.text.head.kind=lexical over a frozen text backbone."
        )
    stored = loader.stored
    assert stored is not None
    rows, texts, chances = _drawn(loader)
    places = _some(np.unique(rows), head.config.anchors)
    is_looked_at = np.isin(rows, places)
    rows, (numbers, of), chances = (
        rows[is_looked_at],
        np.unique(texts[is_looked_at], return_inverse=True),
        chances[is_looked_at],
    )
    shares = torch.zeros(len(places), len(numbers), dtype=torch.float64)
    shares.index_put_(
        (torch.from_numpy(np.searchsorted(places, rows)), torch.from_numpy(of)),
        torch.from_numpy(chances),
        accumulate=True,
    )
    device = network.log_scale.device
    with torch.no_grad():
        output = torch.cat(
            [
                network.text(CachedFeatures(part.to(device))).embedding.cpu()
                for part in loader.texts.output(numbers).split(256)
            ]
        )
    head.fit(stored.mean(places), output, shares / shares.sum(dim=1, keepdim=True))
    return f"the image head is fitted to {len(places):,} pictures and the words of {len(numbers):,} texts"


def _drawn(loader: Loader) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(row, text, chance) of every usable pair of a row and a text that it may be drawn with."""
    rows, texts, chances = loader.texts.chances(loader.caption_view)
    is_usable = np.isin(rows, loader.rows)
    return rows[is_usable], texts[is_usable], chances[is_usable]


def _fit_texts(head: KernelRidge, network: DualEncoder, loader: Loader) -> str:
    if not loader.texts.is_stored:
        raise RecipeError(
            "head.kind kernel is fitted to what a frozen text backbone says; leave model.text.tune and model.text.lora out."
        )
    stored = loader.stored
    assert stored is not None
    was_training = network.training
    network.eval()
    device = network.log_scale.device
    rows, texts, chances = _drawn(loader)
    if loader.weights is not None:  # a row that is drawn twice as often counts twice
        chances = chances * loader.weights[rows] / loader.weights[loader.rows].mean()
    places = np.unique(rows)
    with torch.no_grad():  # one vector a picture: the mean over its views
        parts = np.array_split(places, max(1, len(places) // 1024))
        embedded = torch.cat(
            [
                network.image(CachedFeatures(stored.mean(part).to(device))).embedding.cpu().double()
                for part in parts
            ]
        )
    network.train(was_training)
    numbers, of = np.unique(texts, return_inverse=True)
    weights = torch.zeros(len(numbers), dtype=torch.float64).index_add_(
        0, torch.from_numpy(of), torch.from_numpy(chances)
    )
    shown = embedded[torch.from_numpy(np.searchsorted(places, rows))] * torch.from_numpy(chances)[:, None]
    targets = (
        torch.zeros(len(numbers), embedded.shape[1], dtype=torch.float64).index_add_(
            0, torch.from_numpy(of), shown
        )
        / weights[:, None]
    )
    vectors = loader.texts.output(numbers)
    if vectors.ndim == 3:
        raise RecipeError(
            f"head.kind kernel takes one vector a text, and the backbone gives {vectors.shape[1]} facets; set options.prompt=single."
        )
    head.fit(vectors, targets, weights)
    if head.config.novelty:
        images = network.pretrained_towers()["image"].head if "image" in network.pretrained_towers() else None
        if not isinstance(images, Whitening):
            raise RecipeError(
                "head.novelty of a text head needs a channel of the pictures' head; set model.image.head.kind=whitening, or novelty=0."
            )
        images.level.fill_(head.config.novelty**0.5)
    return f"the text head is fitted to {len(numbers):,} texts"
