"""A trained captioner: its codebook, and the captions that it writes by beam search.

It is a run whose recipe has the objective `captioning`, such as `tldr-captioner`. The image tower and the
causal text tower are those of the model, decoder and codebook those of the objective.
"""

import hashlib
from functools import cached_property
from typing import NamedTuple, final

import torch
from torch import Tensor, nn

from frugalclip.core.devices import pick_device
from frugalclip.core.numerics import top_k
from frugalclip.core.records import RunDirectory
from frugalclip.core.types import ImageInput, Tokens
from frugalclip.functional import nearest_codes
from frugalclip.models import Model, load
from frugalclip.objectives.captioning import Captioning
from frugalclip.training.recipe import load_recipe
from frugalclip.training.restoring import restore_module
from frugalclip.training.step import build_objectives


class BeamSettings(NamedTuple):
    """How captions are searched for."""

    beams: int = 3  # BLIP: 3
    longest: int = 30  # words of the vocabulary; BLIP: 30
    length_power: float = 1.0  # of the length that a sum of log probabilities is divided by; 0: the sum


@final
class Captioner:
    """Writes captions.

    Args:
        model: the towers.
        objective: decoder and codebook.
    """

    def __init__(self, model: Model, objective: Captioning) -> None:
        self.model, self.objective = model, objective.to(model.device).eval()
        self.model.network.eval()

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over all weights; equal ones write the same captions."""
        digest = hashlib.blake2b(self.model.fingerprint.encode(), digest_size=8)
        for name, tensor in sorted(self.objective.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @property
    def codebook(self) -> Tensor | None:
        """(codes, width), None where the decoder reads features."""
        return self.objective.codebook.detach().cpu() if self.objective.config.codes else None

    @torch.inference_mode()
    def image_tokens(self, images: ImageInput) -> Tensor:
        """(batch, patches, width) what the decoder reads of images (batch, 3, height, width)."""
        tokens = self.model.network.image(images.to(self.model.device), with_tokens=True).tokens
        assert tokens is not None, "the captioner was trained on them"
        if not self.objective.config.codes:
            return tokens
        codebook = self.objective.codebook
        return codebook[nearest_codes(tokens, codebook)]

    @torch.inference_mode()
    def write(self, images: ImageInput, settings: BeamSettings) -> list[str]:
        """A caption of each image, the best that a beam search finds; always the same.

        Args:
            images: (batch, 3, height, width) preprocessed.
            settings: of the search.
        """
        ids = self._search(self.image_tokens(images), settings)  # (batch, length)
        return [self.model.tokenizer.decode(row) for row in ids.tolist()]

    def _search(self, image: Tensor, settings: BeamSettings) -> Tensor:
        """(batch, length) ids of the best beam of each image, without the start."""
        tokenizer, beams, batch = self.model.tokenizer, settings.beams, len(image)
        image = image.repeat_interleave(beams, dim=0)  # (batch * beams, patches, width)
        ids = torch.full((batch, beams, 1), tokenizer.start, device=image.device)
        scores = torch.zeros(batch, beams, device=image.device)
        scores[:, 1:] = float("-inf")  # all beams begin alike, so the first one alone counts
        lengths = torch.zeros(batch, beams, dtype=torch.int64, device=image.device)
        has_ended = torch.zeros(batch, beams, dtype=torch.bool, device=image.device)
        for _ in range(min(settings.longest, tokenizer.context - 1)):
            words = self._next_words(ids.flatten(0, 1), image).unflatten(0, (batch, beams))
            total = scores[:, :, None] + _frozen_ends(words, has_ended, end=tokenizer.end)
            scores, places = top_k(total.flatten(1), beams)  # (batch, beams)
            beam, word = places // words.shape[2], places % words.shape[2]
            ids = torch.cat([ids.gather(1, beam[:, :, None].expand_as(ids)), word[:, :, None]], dim=2)
            lengths, has_ended = lengths.gather(1, beam), has_ended.gather(1, beam)
            lengths = lengths + ~has_ended
            has_ended = has_ended | (word == tokenizer.end)
            if bool(has_ended.all()):
                break
        best = (scores / lengths.clamp(min=1) ** settings.length_power).argmax(dim=1)  # (batch,)
        return ids[torch.arange(batch, device=ids.device), best, 1:]

    def _next_words(self, ids: Tensor, image: Tensor) -> Tensor:
        """(rows, vocab) log probabilities of the word behind texts (rows, length)."""
        lengths = torch.full((len(ids),), ids.shape[1], device=ids.device)
        texts = self.model.network.text(Tokens(ids, lengths), with_tokens=True).tokens
        assert texts is not None, "requested"
        logits = self.objective.decoder.output(self.objective.decoder(texts, image)[:, -1]).float()
        logits[:, self._unspoken] = float("-inf")
        return logits.log_softmax(dim=1)

    @cached_property
    def _unspoken(self) -> list[int]:
        """Ids that no caption holds; CLIP's padding is '!', which captions do hold."""
        tokenizer = self.model.tokenizer
        spoken = {tokenizer.end} | ({tokenizer.pad} if tokenizer.settings.kind == "clip" else set())
        return sorted(tokenizer.special_ids - spoken)


def _frozen_ends(words: Tensor, has_ended: Tensor, *, end: int) -> Tensor:
    """Log probabilities (batch, beams, vocab), where a beam (batch, beams) that has ended only ends again."""
    again = torch.full_like(words, float("-inf"))
    again[:, :, end] = 0
    return torch.where(has_ended[:, :, None], again, words)


def read_captioner(place: str) -> Captioner | None:
    """The captioner of a run directory; None where it is no run, or none that learned to write captions.

    Raises:
        ModelError: if the run is damaged or has no checkpoint.
    """
    run = RunDirectory(place)
    if not run.is_run():
        return None
    recipe = load_recipe(str(run.recipe))
    recipe = recipe.stage(max(len(recipe.stages) - 1, 0))
    model, folder = load(place, device=pick_device("auto")), run.last_checkpoint()
    assert folder is not None, "load has read it"
    dims = model.network.dims(batch=recipe.batch, **recipe.run_dims(mask=model.tokenizer.mask))
    objectives = build_objectives(recipe.objectives, dims, seed=recipe.seed)
    found = [one for one in objectives.values() if isinstance(one, Captioning)]
    if not found:
        return None
    restore_module(nn.ModuleDict(dict(objectives)), folder / "objectives.safetensors")
    return Captioner(model, found[0])
