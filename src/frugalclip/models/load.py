"""`load` opens every model: runs, checkpoints, foreign models, and image encoders alone."""

import difflib
from pathlib import Path

import torch

from frugalclip.backbones.attach import attach_backbones
from frugalclip.backbones.base import Use
from frugalclip.backbones.find import find_backbone, modality
from frugalclip.core.errors import ModelError, known_names
from frugalclip.core.finite import refuse_weights
from frugalclip.core.guard import reading
from frugalclip.core.paths import user_path
from frugalclip.core.records import RunDirectory
from frugalclip.core.users_text import shell_line
from frugalclip.interop.foreign import scale_settings
from frugalclip.interop.formats import foreign_formats
from frugalclip.interop.hub import downloads, find_source
from frugalclip.interop.onnx_folder import LEXICON, OnnxFolder
from frugalclip.interop.source import ModelSource
from frugalclip.interop.tokenizers import PassThroughTokenizer
from frugalclip.language_model import Lexicon
from frugalclip.models.description import DESCRIPTION
from frugalclip.models.model import Model
from frugalclip.towers.dual import DualEncoder, ModelConfig

ENCODERS = ("timm", "package")  # schemes of encoders alone; `hf` has both, told by config.json


def load(source: str | Path, *, device: str | torch.device = "cpu", download: bool = False) -> Model:
    """Load a model.

    Args:
        source: a run directory (its last checkpoint), a checkpoint folder, `open_clip:ARCH@FILE`, `hf:DIR`,
            or `onnx:DIR`, which 'frugalclip export' wrote; or an image encoder alone: `timm:NAME@FILE`,
            `hf:DIR`, `package:efficientnet-lite0`.
        device: where it computes.
        download: fetch a model by name that is not in the hub's cache: `hf:openai/clip-vit-base-patch32`,
            `open_clip:ViT-B-32@laion2b_s34b_b79k`, `timm:resnet18`.

    Returns:
        The model, ready to encode. An image encoder alone embeds images and refuses texts.

    Raises:
        ModelError: saying what was found and what was expected; also where a weight is not finite.
        MissingExtra: where the format needs a library that is not installed.
    """
    with downloads(are_allowed=download):
        parsed = find_source(str(source))
    with reading(source, advice="restore the files that its library wrote", error=ModelError):
        return _load(parsed, device=device)


def _load(parsed: ModelSource, *, device: str | torch.device) -> Model:
    if parsed.scheme == "onnx":
        return _onnx_model(parsed, device=device)
    if parsed.scheme in ENCODERS or modality(parsed) == "image":
        return _image_model(parsed, device=device)
    if parsed.scheme in foreign_formats():
        foreign = foreign_formats()[parsed.scheme].read(parsed)
        refuse_weights(foreign.network.state_dict(), where=parsed.text)
        parts = foreign.network, foreign.tokenizer, foreign.preprocess
        return Model(*parts, origin=foreign.origin, device=device)
    return Model.read(_checkpoint(parsed), open_model=load, device=device)


def _image_model(source: ModelSource, *, device: str | torch.device) -> Model:
    """A model without text tower, whose embedding is the vector of an image encoder."""
    backbone = find_backbone(source, Use("image", load)).load()
    preprocess = backbone.preprocess
    assert preprocess is not None, "a backbone of images has a preprocessing"
    image = {
        "kind": "pretrained",
        "from": source.absolute,
        "width": backbone.width,
        "resolution": preprocess.size,
        "head": {"kind": "identity"},
    }
    config = ModelConfig.model_validate({"image": image, "text": {"kind": "none"}, "dim": backbone.width})
    tokenizer = PassThroughTokenizer()
    network = DualEncoder(config, vocabulary=tokenizer.vocabulary, context=tokenizer.context, seed=None)
    tower = network.pretrained_towers()["image"]
    tower.attach(lambda: backbone)
    assert tower.attached is backbone, "a frozen backbone is checked when it is fetched, so here"
    return Model(network.eval(), tokenizer, preprocess, device=device)


def _onnx_model(source: ModelSource, *, device: str | torch.device) -> Model:
    """A model whose towers are ONNX graphs, which compute on the CPU and give unit vectors."""
    folder = OnnxFolder(source.folder)
    record = folder.record
    graph = {"kind": "pretrained", "from": source.absolute, "width": record.dim, "head": {"kind": "identity"}}
    config = ModelConfig.model_validate(
        {
            "image": graph | {"resolution": folder.preprocess.size},
            "text": graph if folder.has("text") else {"kind": "none"},
            "dim": record.dim,
            **({} if record.scale is None else scale_settings(torch.tensor(record.scale).log())),
        }
    )
    tokenizer = folder.tokenizer
    network = DualEncoder(config, vocabulary=tokenizer.vocabulary, context=tokenizer.context, seed=None)
    attach_backbones(network, load, device=device)
    parts = network.eval(), tokenizer, folder.preprocess
    model = Model(*parts, training_data=record.training_data, device=device)
    words = folder.path / LEXICON
    model.lexicon = Lexicon.read(words) if words.is_file() else None
    return model


def _hint(source: ModelSource, path: Path) -> str:
    """What a MODEL that is not there may mean: a known scheme, a folder with a like name, a foreign model."""
    if source.scheme:
        known = known_names(source.scheme, (*foreign_formats(), *ENCODERS, "onnx"))
        return f" '{source.scheme}:' is not a known format; {known}"
    beside = [one.name for one in path.parent.iterdir() if one.is_dir()] if path.parent.is_dir() else []
    if near := difflib.get_close_matches(path.name, beside, n=1, cutoff=0.6):
        return f" did you mean '{path.parent / near[0]}'?"
    if len(path.parts) == 1 and "-" in path.name:
        return f" a model of open_clip is written open_clip:{source}@FILE, with the file of its weights;"
    return ""


def _checkpoint(source: ModelSource) -> Path:
    """The checkpoint folder of a path: itself, or the last one of a run.

    Raises:
        ModelError: saying what is there instead.
    """
    path = user_path(source.text)
    if (path / DESCRIPTION).is_file():
        return path
    if not path.exists():
        raise ModelError(
            f"there is no model at {source};{_hint(source, path)} expected a run directory or a checkpoint, "
            "such as runs/demo."
        )
    run = RunDirectory(path)
    if found := run.model():
        return found
    if run.is_run():
        raise ModelError(
            f"{source} is a run without a finished checkpoint; go on with 'frugalclip train ... --resume'."
        )
    if path.is_file():
        raise ModelError(
            f"{source} is a file, and a file of weights does not name its architecture; write "
            f"{shell_line(f'open_clip:ARCH@{source}')} or {shell_line(f'timm:NAME@{source}')}, or give the "
            "run directory that it came from."
        )
    raise ModelError(
        f"{source} is neither a run nor a checkpoint; expected a run directory, such as runs/demo, or a "
        f"Hugging Face folder, written {shell_line(f'hf:{source}')}."
    )
