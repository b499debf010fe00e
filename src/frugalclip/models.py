"""Models as users hold them: pictures and texts in, unit vectors out.

`load` reads a run directory or a checkpoint of this project, or a foreign model through a reader. A checkpoint carries its architecture,
tokenizer and preprocessing, so nothing has to be said twice and nothing can silently disagree with the weights.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from frugalclip.core.errors import ModelError, known_names
from frugalclip.core.records import RunDirectory, read_json, write_atomically, write_json
from frugalclip.data.images import BadImage, ImageReader
from frugalclip.data.manifest import Manifest
from frugalclip.data.tokens import Tokenizer
from frugalclip.data.views import Preprocess
from frugalclip.functional import unit
from frugalclip.towers.dual import DualEncoder

FORMAT = 1
Layer = Literal["embedding", "pooled"]
SCHEMES = ("open_clip", "hf")  # before a colon: models of other libraries, read by `frugalclip.readers`
ModelInput = Image.Image | Sequence[Image.Image] | Tensor


@dataclass(frozen=True)
class ManifestFeatures:
    """Features of the pictures of a data set that decode."""

    features: Tensor  # (kept, dim) float32; embeddings are unit rows
    rows: np.ndarray  # (kept,) int64 rows of the manifest
    faults: list[tuple[int, str]] = field(default_factory=list)  # (row, cause) of those that do not decode


class Model:
    """A dual encoder with its tokenizer and preprocessing."""

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
        self.origin = origin  # of a model that was imported: source, architecture, activation, logit bias, notes

    @property
    def dim(self) -> int:
        """Width of the joint embedding."""
        return self.network.config.dim

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
        """16 hex digits over weights, architecture, tokenizer and preprocessing; equal fingerprints give equal embeddings."""
        content = {k: v for k, v in self.description.items() if k not in ("training_data", "origin")}
        digest = hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=8)
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else str(tensor.item()).encode())
        return digest.hexdigest()

    @torch.inference_mode()
    def encode_image(self, images: ModelInput, *, normalize: bool = True) -> Tensor:
        """Embed pictures.

        Args:
            images: a PIL picture, a list of them, or (batch, 3, height, width of the picture) / (3, height, width) already preprocessed.
            normalize: scale the vectors to length one.

        Returns:
            (batch, dim) float32 on the CPU; one picture gives a batch of one.
        """
        pixels = self._pixels(images)
        was_training = self.network.training
        self.network.eval()
        embedding = self.network.image(pixels.to(self.device)).embedding.float()
        self.network.train(was_training)
        return (unit(embedding) if normalize else embedding).cpu()

    @torch.inference_mode()
    def encode_text(self, texts: str | Sequence[str], *, normalize: bool = True, batch: int = 1024) -> Tensor:
        """Embed texts.

        Args:
            texts: one or several; longer ones than the context are cut, keeping the end token.
            normalize: scale the vectors to length one.
            batch: texts encoded at a time.

        Returns:
            (batch, dim) float32 on the CPU; one text gives a batch of one.
        """
        listed = [texts] if isinstance(texts, str) else list(texts)
        if not listed:
            return torch.zeros(0, self.dim)
        was_training = self.network.training
        self.network.eval()
        parts = []
        for start in range(0, len(listed), batch):
            tokens = self.tokenizer.encode(listed[start : start + batch])
            if self.device.type != "cpu":
                tokens = type(tokens)(tokens.ids.to(self.device), tokens.lengths.to(self.device))
            parts.append(self.network.text(tokens).embedding.float())
        self.network.train(was_training)
        embedding = torch.cat(parts)
        return (unit(embedding) if normalize else embedding).cpu()

    def image_features(self, manifest: Manifest, *, batch: int = 256, layer: Layer = "embedding") -> ManifestFeatures:
        """Encode every picture of a data set that decodes.

        Args:
            manifest: the data set.
            batch: pictures encoded at a time; twice as many are in memory, at the size that the tower sees.
            layer: `embedding` gives unit vectors of the joint space; `pooled` what the projection reads, at the length it has there.

        Returns:
            Features, the rows they belong to, and what was left out with its cause.
        """
        kept: list[int] = []
        faults: list[tuple[int, str]] = []
        parts: list[Tensor] = []
        for rows, pixels in prepared_images(manifest, self.preprocess, batch=batch, faults=faults):
            kept.extend(rows)
            parts.append(self.encode_image(pixels) if layer == "embedding" else self._pooled(pixels))
        features = torch.cat(parts) if parts else torch.zeros(0, self.dim)
        return ManifestFeatures(features, np.asarray(kept, dtype=np.int64), faults)

    @torch.inference_mode()
    def _pooled(self, pixels: Tensor) -> Tensor:
        """(batch, width) output of the image tower before its projection, on the CPU."""
        was_training = self.network.training
        self.network.eval()
        pooled = self.network.image(pixels.to(self.device)).pooled.float()
        self.network.train(was_training)
        return pooled.cpu()

    def save(self, folder: Path) -> None:
        """Write `model.safetensors`, `model.json` and the tokenizer's files."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        write_atomically(folder / "model.safetensors", save(weights))
        self.tokenizer.save(folder)
        write_json(folder / "model.json", self.description | {"fingerprint": self.fingerprint})

    @classmethod
    def read(cls, folder: Path, *, device: str | torch.device = "cpu") -> "Model":
        """Read what `save` wrote.

        Raises:
            ModelError: for a missing file, another format, or weights that do not fit the architecture.
        """
        if not (folder / "model.json").is_file():
            raise ModelError(f"{folder} holds no model.json; expected a run directory or a checkpoint that frugalclip wrote.")
        content = read_json(folder / "model.json")
        if content.get("format") != FORMAT:
            raise ModelError(f"{folder}/model.json has format {content.get('format')}, this version reads {FORMAT}; update frugalclip.")
        from frugalclip.readers.tokens import read_tokenizer  # tokenizers of imported models are the readers' own

        tokenizer = read_tokenizer(folder)
        if tokenizer.fingerprint() != content["tokenizer"]:
            raise ModelError(f"{folder}: the tokenizer is not the one the weights were trained with; restore the checkpoint's own files.")
        network = DualEncoder.build(content["architecture"])
        try:
            network.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, SafetensorError, RuntimeError) as error:
            first = str(error).splitlines()[0]
            raise ModelError(f"{folder}/model.safetensors does not fit model.json ({first}); restore it, or use another checkpoint.") from error
        preprocess = Preprocess.model_validate(content["preprocess"])
        kept = {name: content.get(name) for name in ("training_data", "origin")}
        return cls(network.eval(), tokenizer, preprocess, **kept, device=device)

    def _pixels(self, images: ModelInput) -> Tensor:
        if isinstance(images, Tensor):
            pixels = images[None] if images.ndim == 3 else images
            if pixels.ndim != 4 or pixels.shape[1] != 3:
                raise ModelError(
                    f"encode_image got a tensor of shape {tuple(images.shape)}, expected (batch, 3, height, width); see model.preprocess."
                )
            return pixels.float()
        listed = [images] if isinstance(images, Image.Image) else list(images)
        if not listed:
            return torch.zeros(0, 3, self.preprocess.size, self.preprocess.size)
        return self.preprocess(listed)


def readable_images(manifest: Manifest, *, batch: int, faults: list[tuple[int, str]]) -> Iterator[tuple[list[int], list[Image.Image]]]:
    """Batches of (rows, pictures) of a data set; rows that do not decode are appended to `faults` with their cause."""
    reader = ImageReader(manifest)
    rows: list[int] = []
    images: list[Image.Image] = []
    for row in range(len(manifest)):
        try:
            images.append(reader.image(row))
            rows.append(row)
        except BadImage as error:
            faults.append((row, error.cause))
        if len(rows) == batch:
            yield rows, images
            rows, images = [], []
    if rows:
        yield rows, images


def prepared_images(
    manifest: Manifest, prepare: Callable[[Image.Image], Tensor], *, batch: int, faults: list[tuple[int, str]], workers: int = 2
) -> Iterator[tuple[list[int], Tensor]]:
    """Batches of (rows, pixels) ready for a tower; a picture leaves memory as soon as it is prepared, and the next batch is on its way.

    Args:
        manifest: the data set.
        prepare: a picture to (1, 3, height, width), such as a model's preprocessing.
        batch: pictures of a batch.
        faults: rows that do not decode are appended, with their cause.
        workers: threads that decode.

    Yields:
        (batch,) rows and (batch, 3, height, width) pixels.
    """
    reader = ImageReader(manifest)

    def one(row: int) -> Tensor | str:
        try:
            return prepare(reader.image(row))
        except BadImage as error:
            return error.cause

    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        ahead: list[tuple[int, list[Future[Tensor | str]]]] = []
        for start in range(0, len(manifest), batch):
            ahead.append((start, [pool.submit(one, row) for row in range(start, min(start + batch, len(manifest)))]))
            if len(ahead) > 1:
                yield from _collected(*ahead.pop(0), faults=faults)
        for start, futures in ahead:
            yield from _collected(start, futures, faults=faults)


def _collected(start: int, futures: Sequence[Future[Tensor | str]], *, faults: list[tuple[int, str]]) -> Iterator[tuple[list[int], Tensor]]:
    done = [(start + i, future.result()) for i, future in enumerate(futures)]
    faults += [(row, found) for row, found in done if isinstance(found, str)]
    pictures = [(row, found) for row, found in done if isinstance(found, Tensor)]
    if pictures:
        yield [row for row, _ in pictures], torch.cat([found for _, found in pictures])


def load(source: str | Path, *, device: str | torch.device = "cpu") -> Model:
    """Load a model.

    Args:
        source: a run directory (its last checkpoint), a checkpoint folder, `open_clip:ARCH@FILE` or `hf:DIR`.
        device: where it computes.

    Returns:
        The model, ready to encode.

    Raises:
        ModelError: saying what was found and what was expected.
        MissingExtra: where a reader needs a library that is not installed.
    """
    path = Path(source)
    if not path.exists():
        scheme, colon, _ = str(source).partition(":")
        if scheme in SCHEMES:
            return _foreign(str(source), scheme, device=device)
        hint = f" '{scheme}:' is not a reader of this version; {known_names(scheme, SCHEMES)}" if colon else ""
        raise ModelError(f"there is no model at {source};{hint} expected a run directory or a checkpoint, such as runs/demo.")
    if (path / "model.json").is_file():
        return Model.read(path, device=device)
    run = RunDirectory(path)
    last = run.last_checkpoint()
    if last is None:
        what = "a run without a finished checkpoint; go on with 'frugalclip train ... --resume'" if run.is_run() else "neither a run nor a checkpoint"
        raise ModelError(f"{source} is {what}.")
    return Model.read(last, device=device)


def _foreign(source: str, scheme: str, *, device: str | torch.device) -> Model:
    """A model of another library; the readers are imported here, since most models need none."""
    if scheme == "hf":
        from frugalclip.readers.huggingface import read_huggingface as read
    else:
        from frugalclip.readers.open_clip import read_open_clip as read
    parts = read(source)
    return Model(parts.network, parts.tokenizer, parts.preprocess, origin=parts.origin, device=device)
