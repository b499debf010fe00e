"""Preprocessing of images in folders of Hugging Face, read without the library.

Source: transformers, `image_processing_utils.py` and the processors of CLIP, SigLIP, ViT, DeiT and BiT, whose
keys these are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from frugalclip.core.errors import ModelError
from frugalclip.core.preprocess import Preprocess
from frugalclip.core.records import read_json, write_json
from frugalclip.interop.foreign import triple

FILE = "preprocessor_config.json"
IMAGE_ENCODERS = {  # type of model: tokens before the patches, registers not counted
    "vit": 1,
    "deit": 2,  # [CLS] and the one that learned from a teacher
    "dinov2": 1,
    "dinov2_with_registers": 1,
    "dinov3_vit": 1,
    "clip_vision_model": 1,
    "siglip_vision_model": 0,
}
NEEDED = ("size", "resample", "image_mean", "image_std")
FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def read_preprocess(folder: Path, *, defaults: Mapping[str, Any]) -> Preprocess:
    """The preprocessing of `preprocessor_config.json`, or `processor_config.json` of newer versions.

    Args:
        folder: as `save_pretrained` writes it.
        defaults: what the folder's processor takes for keys that the file leaves out.

    Raises:
        ModelError: where there is no such file, or it prepares images in a way that has no counterpart
            here.
    """
    file, given = _settings(folder)
    settings = {**defaults, **{name: value for name, value in given.items() if value is not None}}
    if missing := [name for name in NEEDED if name not in settings]:
        raise ModelError(
            f"{file} does not give {', '.join(missing)}, which images depend on; copy the file from the "
            "model's page."
        )
    factor = float(settings.get("rescale_factor", 1 / 255))
    if (
        not all(settings.get(f"do_{step}", True) for step in ("resize", "normalize", "rescale"))
        or abs(factor * 255 - 1) > 1e-4
    ):
        raise ModelError(f"{file} leaves images unscaled or not normalised, which has no counterpart here.")
    if settings["resample"] not in FILTERS:
        raise ModelError(
            f"{file} resizes with Pillow's filter {settings['resample']}; 2 (bilinear) and 3 (bicubic) have "
            "counterparts here."
        )
    size, resized, is_squashed = _sides(settings, file)
    return Preprocess(
        size=size,
        resize="squash" if is_squashed else "shorter",
        crop=size / resized,
        interpolation="bilinear" if settings["resample"] == 2 else "bicubic",
        mean=triple(settings["image_mean"], (0, 0, 0)),
        std=triple(settings["image_std"], (1, 1, 1)),
    )


def write_preprocess(preprocess: Preprocess, folder: Path, *, processor: str) -> None:
    """Write `preprocessor_config.json`, which `read_preprocess` reads.

    Args:
        preprocess: of a model.
        folder: to write into.
        processor: class of the processor of images and texts.
    """
    resized, is_squashed = round(preprocess.size / preprocess.crop), preprocess.resize == "squash"
    side = {"height": preprocess.size, "width": preprocess.size}
    content = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": processor,
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": resized, "width": resized} if is_squashed else {"shortest_edge": resized},
        "resample": {name: number for number, name in FILTERS.items()}[preprocess.interpolation],
        "do_center_crop": not is_squashed or resized != preprocess.size,
        "crop_size": side,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }
    write_json(folder / FILE, content)


def _settings(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    for file in (folder / FILE, folder / "processor_config.json"):
        if file.is_file():
            content = read_json(file)
            settings = (
                content
                if file.name == FILE or not isinstance(content, Mapping)
                else content.get("image_processor")
            )
            if not isinstance(settings, Mapping):
                raise ModelError(f"{file} holds no settings of images; copy it again.")
            return file, settings
    raise ModelError(
        f"{folder} has no {FILE}, so the preprocessing of images is unknown; copy it from the model's page."
    )


def _sides(settings: Mapping[str, Any], file: Path) -> tuple[int, int, bool]:
    """Pixels on a side of the result, those that a side is resized to before, and whether both sides are."""
    size, is_cut = settings["size"], bool(settings.get("do_center_crop"))
    if isinstance(size, Mapping):
        is_squashed = "shortest_edge" not in size
        resized = _square(size) if is_squashed else int(size["shortest_edge"])
    else:  # files of older versions; DeiT's processor alone squashes images that it then crops
        maker = str(settings.get("image_processor_type") or settings.get("feature_extractor_type"))
        resized, is_squashed = int(size), not is_cut or maker.startswith("DeiT")
    cut = settings.get("crop_size", resized) if is_cut else resized
    kept = _square(cut) if isinstance(cut, Mapping) else int(cut)
    if not 0 < kept <= resized or not (is_cut or is_squashed):
        requested = f"size {settings['size']}" + (f" and crop_size {cut}" if is_cut else " without cutting")
        raise ModelError(
            f"{file} asks for {requested}; only squares of one size, cut from the middle or squashed, have a "
            "counterpart here."
        )
    return kept, resized, is_squashed


def _square(sides: Mapping[str, Any]) -> int:
    """The side where height and width agree, else 0."""
    height, width = int(sides.get("height", 0)), int(sides.get("width", 0))
    return height if height == width else 0
