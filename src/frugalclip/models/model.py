"""`Model`: an image tower and a text tower with their tokenizer and preprocessing, as users hold them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from frugalclip.backbones.attach import attach_backbones
from frugalclip.backbones.base import OpenModel
from frugalclip.core.checksums import RESTORE, verify_checksums, write_checksums
from frugalclip.core.errors import ModelError
from frugalclip.core.finite import refuse_weights
from frugalclip.core.guard import reading
from frugalclip.core.paths import user_path
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.progress import counter
from frugalclip.core.records import write_atomically, write_json
from frugalclip.core.types import CachedFeatures, ImageInput, TextInput
from frugalclip.data.manifest import Manifest
from frugalclip.data.tokens import Tokenizer
from frugalclip.features.backbone import BackboneEncoder
from frugalclip.features.cache import FeatureCache
from frugalclip.features.format import Kind
from frugalclip.functional.losses import unit_or_nan
from frugalclip.interop.tokenizers import read_tokenizer
from frugalclip.language_model import Lexicon
from frugalclip.loading.images import prepared_images
from frugalclip.models.description import (
    DESCRIPTION,
    FILES,
    FORMAT,
    LEXICON,
    WEIGHTS,
    Description,
    read_description,
)
from frugalclip.models.inputs import ModelInput, pixel_batches
from frugalclip.towers.dual import DualEncoder

Layer = Literal["embedding", "pooled"]


@dataclass(frozen=True)
class ManifestFeatures:
    """Features of the images of a data set that decode."""

    features: Tensor  # (kept, dim) float32; embeddings are unit rows
    rows: np.ndarray  # (kept,) int64 rows of the manifest
    faults: list[tuple[int, str]] = field(default_factory=list)  # (row, cause) of those that do not decode


class Model:
    """A dual encoder with its tokenizer and preprocessing; of an image encoder alone, texts are refused."""

    def __init__(
        self,
        network: DualEncoder,
        tokenizer: Tokenizer,
        preprocess: Preprocess,
        *,
        training_data: dict[str, Any] | None = None,
        origin: dict[str, Any] | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self.tokenizer = tokenizer
        self.preprocess = preprocess
        self.training_data = training_data
        frozen = [
            BackboneEncoder(tower, preprocess=preprocess, tokenizer=tokenizer, device=self.device)
            for tower in network.pretrained_towers().values()
            if tower.config.is_frozen
        ]
        self.caches: dict[Kind, FeatureCache] = {encoder.kind: FeatureCache(encoder) for encoder in frozen}
        self.lexicon: Lexicon | None = None  # the words of an embedding that has a number for each
        self.origin = origin  # of an imported model: source, architecture, activation, logit bias, notes

    @property
    def dim(self) -> int:
        """Width of the joint embedding."""
        return self.network.config.dim

    @property
    def reads(self) -> Literal["both", "images"]:
        """What it encodes: images and texts, or images alone."""
        return "both" if self.network.config.text.encodes_texts else "images"

    @property
    def scale(self) -> float | None:
        """Learned multiplier of cosines; None for an image encoder alone."""
        return self.network.scale().item() if self.reads == "both" else None

    @property
    def description(self) -> dict[str, Any]:
        """Architecture, tokenizer and preprocessing as JSON: what `model.json` holds."""
        origin = {} if self.origin is None else {"origin": self.origin}
        return {
            "format": FORMAT,
            "kind": "dual_encoder",
            "architecture": self.network.architecture(),
            "preprocess": self.preprocess.model_dump(mode="json"),
            "tokenizer": self.tokenizer.fingerprint(),
            "training_data": self.training_data,
            **origin,
        }

    @property
    def fingerprint(self) -> str:
        """16 hex digits over weights, architecture, tokenizer and preprocessing; equal ones embed alike."""
        content = {k: v for k, v in self.description.items() if k not in ("training_data", "origin")}
        digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8)
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            # flat first: a kernel of one pixel is contiguous in two orders, of which one has no bytes to view
            flat = tensor.detach().cpu().reshape(-1).contiguous()
            digest.update(
                flat.view(torch.uint8).numpy().tobytes() if tensor.ndim else str(tensor.item()).encode()
            )
        return digest.hexdigest()

    @torch.inference_mode()
    def encode_image(self, images: ModelInput, *, normalize: bool = True, batch: int = 256) -> Tensor:
        """Embed images.

        Args:
            images: one or several: paths, PIL images, uint8 arrays (height, width, 3) or tensors (3, height,
                width); float tensors (batch, 3, height, width) that are already preprocessed; or cached
                features.
            normalize: scale the vectors to length one.
            batch: images decoded and encoded at a time.

        Returns:
            (batch, dim) float32 on the CPU; one image gives a batch of one.

        Raises:
            DataError: naming the file that is missing or does not decode.
            ModelError: for an array of another shape.
        """
        if isinstance(images, CachedFeatures):
            return self._encode_image(images, normalize=normalize)
        batches = pixel_batches(images, self.preprocess, batch=batch)
        parts = [self._encode_image(pixels, normalize=normalize) for pixels in batches]
        return torch.cat(parts) if parts else torch.zeros(0, self.dim)

    def _encode_image(self, inputs: ImageInput, *, normalize: bool) -> Tensor:
        was_training = self.network.training
        self.network.eval()
        embedding = self.network.image(inputs.to(self.device)).embedding.float()
        self.network.train(was_training)
        return (unit_or_nan(embedding) if normalize else embedding).cpu()

    @torch.inference_mode()
    def encode_text(
        self,
        texts: str | Sequence[str],
        *,
        normalize: bool = True,
        batch: int = 1024,
        layer: Layer = "embedding",
    ) -> Tensor:
        """Embed texts.

        Args:
            texts: one or several; longer ones than the context are cut, keeping the end token.
            normalize: scale the vectors to length one.
            batch: texts encoded at a time.
            layer: `embedding` gives vectors of the joint space; `pooled` the input of the projection.

        Returns:
            (batch, dim) float32 on the CPU; one text gives a batch of one.
        """
        listed = [texts] if isinstance(texts, str) else list(texts)
        if not listed:
            return torch.zeros(0, self.dim)
        was_training = self.network.training
        self.network.eval()
        parts = [
            getattr(self.network.text(self.text_inputs(listed[start : start + batch])), layer).float()
            for start in range(0, len(listed), batch)
        ]
        self.network.train(was_training)
        embedding = torch.cat(parts)
        embedding = (
            embedding.mean(dim=1) if embedding.ndim == 3 else embedding
        )  # facets: FLAME's evaluation averages them before their length goes
        return (unit_or_nan(embedding) if normalize else embedding).cpu()

    def words(self, embeddings: Tensor, *, top: int = 10) -> list[list[tuple[str, float]]]:
        """The words that describe images or texts most, with their weights, for a model with lexical heads.

        Args:
            embeddings: (batch, dim) as `encode_image` and `encode_text` give them.
            top: words of each.

        Returns:
            For each, words with their weight, the largest first; none whose weight is zero.

        Raises:
            ModelError: where the embedding has no words.
        """
        if self.lexicon is None:
            raise ModelError(
                "this model's embedding is not one of words; train one with 'frugalclip train words' or "
                "'frugalclip train lexvla'."
            )
        values, places = embeddings.topk(min(top, embeddings.shape[1]), dim=1)
        names = self.lexicon.words
        return [
            [(names[i], v) for v, i in zip(*row, strict=True) if v > 0]
            for row in zip(values.tolist(), places.tolist(), strict=True)
        ]

    def text_inputs(self, texts: list[str]) -> TextInput:
        """What the text tower takes: token ids, or cached features of a frozen backbone."""
        cache = self.caches.get("text")
        return (self.tokenizer.encode(texts) if cache is None else cache.texts(texts)).to(self.device)

    def image_inputs(
        self, manifest: Manifest, *, batch: int, faults: list[tuple[int, str]]
    ) -> Iterator[tuple[list[int], ImageInput]]:
        """What the image tower takes: pixels, or cached features of a frozen backbone.

        Args:
            manifest: the data set.
            batch: images of a batch.
            faults: rows that do not decode are appended, with their cause.

        Yields:
            Rows, and their input on the CPU.
        """
        cache = self.caches.get("image")
        if cache is None:
            return prepared_images(manifest, self.preprocess, batch=batch, faults=faults)
        return cache.images(manifest, batch=batch, faults=faults)

    def image_features(
        self, manifest: Manifest, *, batch: int = 256, layer: Layer = "embedding"
    ) -> ManifestFeatures:
        """Encode every image of a data set that decodes.

        Args:
            manifest: the data set.
            batch: images encoded at a time; twice as many are in memory, at the size of the tower.
            layer: `embedding` gives unit vectors of the joint space; `pooled` the input of the projection,
                not normalised.

        Returns:
            Features, the rows they belong to, and what was left out with its cause.
        """
        kept: list[int] = []
        faults: list[tuple[int, str]] = []
        parts: list[Tensor] = []
        count = counter("encoding images", len(manifest))
        for rows, inputs in self.image_inputs(manifest, batch=batch, faults=faults):
            kept.extend(rows)
            parts.append(self.encode_image(inputs) if layer == "embedding" else self._pooled(inputs))
            count(len(rows))
        features = torch.cat(parts) if parts else torch.zeros(0, self.dim)
        return ManifestFeatures(features, np.asarray(kept, dtype=np.int64), faults)

    @torch.inference_mode()
    def _pooled(self, inputs: ImageInput) -> Tensor:
        """(batch, width) output of the image tower before its projection, on the CPU."""
        was_training = self.network.training
        self.network.eval()
        pooled = self.network.image(inputs.to(self.device)).pooled.float()
        self.network.train(was_training)
        return pooled.cpu()

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors`, `model.json`, the tokenizer's files, and the checksums of all."""
        folder = user_path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {
            name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()
        }
        write_atomically(folder / WEIGHTS, save(weights))
        self.tokenizer.save(folder)
        if self.lexicon is not None:
            self.lexicon.save(folder / LEXICON)
        write_json(folder / DESCRIPTION, self.description | {"fingerprint": self.fingerprint})
        write_checksums(folder, FILES)

    @classmethod
    def read(cls, folder: Path, *, open_model: OpenModel, device: str | torch.device = "cpu") -> "Model":
        """Read what `save` wrote.

        Args:
            folder: of a checkpoint.
            open_model: opens models whose tower is a backbone of this one.
            device: where it computes.

        Raises:
            ModelError: for a missing file, another format, or weights that do not fit the architecture.
        """
        description = read_description(folder)
        verify_checksums(folder, FILES)
        # what is damaged and has its checksum all the same was written so
        with reading(folder, advice=RESTORE, error=ModelError):
            return cls._read(folder, description, open_model=open_model, device=device)

    @classmethod
    def _read(
        cls, folder: Path, description: Description, *, open_model: OpenModel, device: str | torch.device
    ) -> "Model":
        tokenizer = read_tokenizer(folder)
        if tokenizer.fingerprint() != description.tokenizer:
            raise ModelError(
                f"{folder}: the tokenizer is not the one the weights were trained with; restore the "
                "checkpoint's own files."
            )
        network = attach_backbones(DualEncoder.build(description.architecture), open_model, device=device)
        weights = load_file(folder / WEIGHTS)
        refuse_weights(weights, where=str(folder / WEIGHTS))
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise ModelError(
                f"{folder / WEIGHTS} does not fit {DESCRIPTION} ({first}); {RESTORE}."
            ) from error
        preprocess = Preprocess.model_validate(description.preprocess)
        kept = {"training_data": description.training_data, "origin": description.origin}
        model = cls(network.eval(), tokenizer, preprocess, **kept, device=device)
        model.lexicon = Lexicon.read(folder / LEXICON) if (folder / LEXICON).is_file() else None
        return model
