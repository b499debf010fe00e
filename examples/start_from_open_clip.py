"""Start from an open_clip file. Random weights stand in for the ones you have; nothing is downloaded."""

import json
import tempfile
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from shapes import draw_folder

import frugalclip

CONFIG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def write_open_clip(folder: Path) -> str:
    """Write a small random model as open_clip would, and give its name for frugalclip."""
    torch.manual_seed(0)
    weights = open_clip.CLIP(**CONFIG).state_dict()
    save_file({name: one.contiguous() for name, one in weights.items()}, folder / "weights.safetensors")
    (folder / "tiny.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    return f"open_clip:{folder / 'tiny.json'}@{folder / 'weights.safetensors'}"


def main(folder: Path) -> None:
    # 1. Data: a folder of pictures with .txt files beside them.
    draw_folder(folder / "train", 96, seed=1)
    draw_folder(folder / "test", 24, seed=2)
    source = write_open_clip(folder)

    # 2. Train further: towers, tokenizer and preprocessing come with the model.
    overrides = [
        f"data={folder / 'train'}",
        f"init_from={source}",
        "optimizer.lr=1e-4",
        "batch=32",
        "steps=10",
    ]
    result = frugalclip.train("clip", overrides, out=folder / "run")
    print(f"trained {result.steps} steps")

    # 3. Evaluate before and after.
    for name, model in (("before", source), ("after", folder / "run")):
        found = frugalclip.evaluate(model, data=folder / "test", task="retrieval")
        print(f"{name}: picture of a caption, among the first ten: {found['metrics']['t2i_r10']:.1f} %")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        main(Path(name))
