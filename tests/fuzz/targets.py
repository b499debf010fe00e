"""What is fuzzed: a reader of the package, files that it reads, and what it makes of them.

`read` returns what was understood, as bytes. Where `is_exact`, damage must be refused or change nothing.
"""

import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import save_file

from frugalclip.comparison.jobs import Trial, read_job
from frugalclip.core.errors import DataError
from frugalclip.core.finite import refuse_vectors
from frugalclip.core.jobs import Job, Record
from frugalclip.core.records import RunDirectory
from frugalclip.core.yaml_text import dump_yaml
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode
from frugalclip.data.ledger import Ledger, read_ledger
from frugalclip.data.manifest import Manifest
from frugalclip.data.tokens import file_tokenizer
from frugalclip.evaluation.classes import read_classes
from frugalclip.evaluation.encoding import IMAGES, TEXTS
from frugalclip.evaluation.prompts import find_prompts
from frugalclip.features.embed import embed_manifest
from frugalclip.features.store import Store
from frugalclip.language_model import FrozenLanguageModel, LanguageModelSettings, Lexicon
from frugalclip.models import load
from frugalclip.report.record import read_run
from frugalclip.serving.index import open_index
from frugalclip.sources.open import open_data
from frugalclip.training.loop import train_run
from frugalclip.training.recipe import load_recipe
from frugalclip.training.run import open_run
from frugalclip.verbs.curate import curate
from frugalclip.verbs.export import export
from frugalclip.verbs.ledger import explain, show_story, show_undo, undo
from frugalclip.verbs.search_build import search_build

PICTURES = 8
RECIPE: dict[str, Any] = {
    "tokenizer": {"kind": "captions", "vocabulary": 600, "context": 8},
    "model": {
        "image": {"width": 16, "depth": 1, "head_dim": 16, "patch": 8, "resolution": 16},
        "text": {"width": 16, "depth": 1, "head_dim": 16},
        "dim": 8,
    },
    "objectives": {
        "contrastive": 1,
        "neighbours": {"weight": 0.1, "size": 16, "images": ["main"], "texts": ["caption"]},
    },
    "views": {"main": {}, "second": {}},
    "batch": 4,
    "steps": 2,
    "precision": "fp32",
    "threads": 1,
    "evaluation": {"points": 2},
}
VISION = {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}


@dataclass(frozen=True)
class Target:
    """A reader, with a folder that it reads."""

    name: str
    folder: str  # of the untouched files, below the root
    files: str  # pattern of those that are damaged
    read: Callable[[Path], bytes]
    is_exact: bool = False  # damage is refused, or changes nothing that is read


def picture(number: int, kind: str = "PNG", **options: Any) -> bytes:
    """A small image of two colours."""
    pixels = np.zeros((12, 10, 3), np.uint8)
    pixels[:6], pixels[6:] = (40 * number % 255, 90, 200 - 20 * number), (10, 30 * number % 255, 60)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def build(root: Path) -> None:
    """Write the untouched files of every target."""
    _build_data(root)
    _build_run(root)
    _build_models(root)
    _build_rest(root)
    _build_hub(root)
    _build_uses(root)


def _build_data(root: Path) -> None:
    for name in ("folder", "csv", "jsonl", "json", "parquet", "tars", "images", "coco"):
        (root / name).mkdir(parents=True)
    rows = [
        {"id": f"p{i}", "image": f"{i}.png", "caption": f"picture {i} in two colours", "split": "train"}
        for i in range(PICTURES)
    ]
    for folder in ("folder", "csv", "jsonl", "json", "coco"):
        for i in range(PICTURES):
            (root / folder / f"{i}.png").write_bytes(picture(i))
    for i in range(PICTURES):
        (root / "folder" / f"{i}.txt").write_text(rows[i]["caption"])
    lines = ["id,image,caption,split", *(",".join(row.values()) for row in rows)]
    (root / "csv" / "pairs.csv").write_text("\n".join(lines) + "\n")
    (root / "jsonl" / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (root / "json" / "pairs.json").write_text(json.dumps(rows))
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(PICTURES)],
        "annotations": [{"id": i, "image_id": i, "caption": f"picture {i}"} for i in range(PICTURES)],
    }
    (root / "coco" / "captions.json").write_text(json.dumps(coco))
    columns = {"image": [picture(i) for i in range(PICTURES)], "caption": [row["caption"] for row in rows]}
    table = pa.table(columns)
    pq.write_table(table, root / "parquet" / "pairs.parquet")
    with tarfile.open(root / "tars" / "0.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for i in range(PICTURES):
            for name, data in ((f"{i}.png", picture(i)), (f"{i}.txt", rows[i]["caption"].encode())):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    shutil.copytree(Path(__file__).parents[1] / "sources" / "saved_by_datasets", root / "saved")
    for kind, ending in (("PNG", "png"), ("JPEG", "jpg"), ("GIF", "gif"), ("WEBP", "webp"), ("TIFF", "tif")):
        (root / "images" / f"one.{ending}").write_bytes(picture(3, kind))
    (root / "images" / "progressive.jpg").write_bytes(picture(3, "JPEG", progressive=True))


def _build_run(root: Path) -> None:
    recipe = root / "recipes" / "small.yaml"
    recipe.parent.mkdir()
    recipe.write_text(dump_yaml(RECIPE | {"data": {"path": str(root / "folder")}}))
    loaded = load_recipe(str(recipe))
    data = open_data(root / "folder")
    train_run(loaded, data, RunDirectory(root / "run"))
    shutil.copytree(root / "run", root / "metrics")
    shutil.rmtree(root / "metrics" / "checkpoints")
    (root / "model").mkdir()
    last = RunDirectory(root / "run").last_checkpoint()
    assert last is not None
    shutil.copytree(last, root / "model", dirs_exist_ok=True)
    embed_manifest(load(root / "model"), data, root / "store", chunk_rows=3)
    (root / "manifest").mkdir()
    data.write(root / "manifest" / "manifest.parquet")
    (root / "ledger").mkdir()
    Ledger("reading").write(root / "ledger" / "ledger.parquet", kept=data.ids, seen=len(data))


def _build_models(root: Path) -> None:
    from open_clip.model import CLIP

    torch.manual_seed(0)
    (root / "open_clip").mkdir()
    config = {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": TEXT}
    state = CLIP(**config).state_dict()
    save_file(state, root / "open_clip" / "w.safetensors")
    (root / "open_clip" / "a.json").write_text(json.dumps(config))
    (root / "pickled").mkdir()
    (root / "pickled" / "a.json").write_text(json.dumps(config))
    torch.save({"state_dict": state, "epoch": 3}, root / "pickled" / "w.pt")


def _build_hub(root: Path) -> None:
    """An image encoder and a causal language model, as Hugging Face saves them."""
    from ..backbones.tiny_backbones import llama_source, vision_source

    vision_source(root / "hf")
    llama_source(root / "language_model")


def _build_rest(root: Path) -> None:
    for name in ("lists", "lexicon", "job", "comparison", "tokenizer"):
        (root / name).mkdir()
    (root / "lists" / "classes.txt").write_text("red, crimson\ngreen\nblue\n")
    (root / "lists" / "prompts.txt").write_text("a photo of a {}\na {} on white\n")
    Lexicon(["cat", "dog"], [0, 1, -1, 0]).save(root / "lexicon" / "lexicon.json")
    shutil.copy(root / "model" / "tokenizer.json", root / "tokenizer")
    job = Job(root / "job", {"format": 1, "size": 8}, what="shards")
    job.begin()
    record = Record(key="0" * 32, files={}, notes={"rows": 3}).written().model_dump()
    (root / "job" / ".job" / "records").mkdir()
    (root / "job" / ".job" / "records" / "one.json").write_text(json.dumps(record))
    described = {
        "frugalclip_job": 2,
        "arm": "clip",
        "recipe": {"steps": 2},
        "seed": 1,
        "seed_index": 0,
        "data": "data.parquet",
        "train": "split=train",
        "data_hash": "0" * 16,
    }
    (root / "comparison" / "job.json").write_text(json.dumps(described))
    trial = {"job": "0" * 16, "metrics": {"top1": {"value": 3.0}}, "training": {"seconds": 1.0}}
    (root / "comparison" / "trial.json").write_text(json.dumps(trial))


def _build_uses(root: Path) -> None:
    """What other verbs store: a search index, a curation, an export."""
    search_build(root / "model", root / "folder", out=root / "index")
    plan = root / "recipes" / "plan.yaml"
    plan.write_text("stages: [{stage: rules, min_side: 2}, {stage: exact_images}]")
    curate(root / "folder", plan=plan, out=root / "curation", workers=1)
    export(str(root / "model"), to="onnx", out=root / "onnx", data=root / "folder")


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"|".join(hashlib.sha256(part).digest() for part in parts)).digest()


def _tensors(state: dict[str, torch.Tensor]) -> bytes:
    return _digest(*(name.encode() + tensor.numpy().tobytes() for name, tensor in sorted(state.items())))


def read_model(folder: Path) -> bytes:
    model = load(folder)
    found = model.encode_text(["two colours"])
    assert bool(found.isfinite().all()), "a vector that is not finite"
    return _tensors(dict(model.network.state_dict())) + model.tokenizer.fingerprint().encode()


def read_checkpoint(folder: Path) -> bytes:
    directory = RunDirectory(folder)
    recipe = load_recipe(str(folder.parent / "small.yaml"))
    run = open_run(recipe, _data(folder), directory, resume=True)
    run.write_record()
    moments = run.stage.optimizer.state
    parts = [_tensors(dict(run.stage.module.state_dict())), bytes(torch.get_rng_state().numpy().tobytes())]
    for group in run.stage.optimizer.param_groups:
        parts += [value.numpy().tobytes() for p in group["params"] for value in moments[p].values()]
    return _digest(*parts, str((run.step, run.stage.number)).encode())


_DATA: dict[str, Manifest] = {}


def _data(folder: Path) -> Manifest:
    path = load_recipe(str(folder.parent / "small.yaml")).data.path
    assert path is not None
    if path not in _DATA:
        _DATA[path] = open_data(path)
    return _DATA[path]


def read_store(folder: Path) -> bytes:
    store = Store.open(folder)
    texts = store.ragged("text")
    rows = store.rows_of(store.ids)
    images = store.vectors("image", fill=0.0)
    arrays = (images.numpy(), texts.values.numpy(), texts.offsets, rows)
    assert all(np.isfinite(array).all() for array in arrays), "a vector that is not finite"
    return _digest(*(array.tobytes() for array in arrays), "|".join(store.ids).encode())


def read_data(folder: Path) -> bytes:
    names = {"csv": "pairs.csv", "jsonl": "pairs.jsonl", "json": "pairs.json", "parquet": "pairs.parquet"}
    names |= {"tars": "0.tar", "manifest": "manifest.parquet", "coco": "captions.json"}
    data = open_data(folder / names.get(folder.name, ""))
    reader = ImageReader(data)
    faults = 0
    for row in range(min(len(data), PICTURES)):
        try:
            reader.image(row)
        except Exception as error:
            if type(error).__name__ != "BadImage":
                raise
            faults += 1
    return f"{data.ids} {data.captions()} {faults}".encode("utf-8", "replace")


def read_images(folder: Path) -> bytes:
    faults = 0
    for file in sorted(folder.iterdir()):
        try:
            decode(file.read_bytes())
        except Exception as error:
            if type(error).__name__ != "BadImage":
                raise
            faults += 1
    return str(faults).encode()


def read_metrics(folder: Path) -> bytes:
    run = RunDirectory(folder)
    read_run(run)
    run.cut_rows(after_step=2)
    return str(list(run.rows())).encode("utf-8", "replace")


def read_open_clip(folder: Path) -> bytes:
    weights = folder / ("w.pt" if folder.name == "pickled" else "w.safetensors")
    model = load(f"open_clip:{folder}/a.json@{weights}")
    texts = model.encode_text(["two colours"])
    images = model.encode_image(torch.zeros(1, 3, *[model.preprocess.size] * 2))
    refuse_vectors(texts, origin=TEXTS)  # as everything does that reads vectors of a model
    refuse_vectors(images, origin=IMAGES)
    return b""


def read_encoder(folder: Path) -> bytes:
    model = load(f"hf:{folder}")
    vectors = model.encode_image(torch.zeros(1, 3, *[model.preprocess.size] * 2))
    refuse_vectors(vectors, origin=IMAGES)
    return b""


def read_language_model(folder: Path) -> bytes:
    model = FrozenLanguageModel.read(folder, LanguageModelSettings(precision="fp32", caption_tokens=20))
    vectors = model.encode_texts(["two colours"])
    assert bool(vectors.isfinite().all()), "a vector that is not finite"
    return b""


def read_lists(folder: Path) -> bytes:
    return f"{read_classes(folder / 'classes.txt')} {find_prompts(folder / 'prompts.txt')}".encode()


def read_comparison(folder: Path) -> bytes:
    job = read_job(folder / "job.json")
    return f"{job} {Trial(job, folder).read().is_finished}".encode("utf-8", "replace")


def read_memory(folder: Path) -> bytes:
    job = Job(folder, {"format": 1, "size": 8}, what="shards")
    job.begin()
    record = job.recorded("one")
    if record is None:
        raise DataError("the shard is not finished, so it is made again")
    return str(record).encode("utf-8", "replace")


def read_recipe(folder: Path) -> bytes:
    return load_recipe(str(folder / "small.yaml")).to_yaml().encode()


def read_fates(folder: Path) -> bytes:
    return str(read_ledger(folder / "ledger.parquet").to_pylist()).encode("utf-8", "replace")


def read_lexicon(folder: Path) -> bytes:
    return str(Lexicon.read(folder / "lexicon.json").words).encode("utf-8", "replace")


def read_backend(folder: Path) -> bytes:
    return str(file_tokenizer(folder / "tokenizer.json").encode(["two colours"]).ids).encode()


def read_index(folder: Path) -> bytes:
    index = open_index(folder)
    texts = [index.query("two colours", k=4), index.query(like=index.rows.manifest.ids[0], k=4)]
    return str(texts).replace(str(folder), "").encode("utf-8", "replace")


def read_curation(folder: Path) -> bytes:
    with redirect_stdout(io.StringIO()):
        story = explain(folder, "0")
        show_story(story)
        summary = undo(folder, "exact_images")
        show_undo(summary, folder)
    return str(story).encode("utf-8", "replace")


def read_export(folder: Path) -> bytes:
    model = load(f"onnx:{folder}")
    return _tensors({"text": model.encode_text(["two colours"])}) + str(model.preprocess).encode()


TARGETS = [
    Target("model", "model", "*", read_model, is_exact=True),
    Target("checkpoint", "run", "checkpoints/step-2/*", read_checkpoint, is_exact=True),
    Target("store", "store", "**/*", read_store, is_exact=True),
    Target("run", "metrics", "*.json*", read_metrics),
    Target("recipe", "recipes", "*.yaml", read_recipe),
    Target("folder", "folder", "*", read_data),
    Target("csv", "csv", "*.csv", read_data),
    Target("jsonl", "jsonl", "*.jsonl", read_data),
    Target("json", "json", "*.json", read_data),
    Target("coco", "coco", "*.json", read_data),
    Target("parquet", "parquet", "*", read_data),
    Target("tars", "tars", "*", read_data),
    Target("manifest", "manifest", "*", read_data),
    Target("saved", "saved", "**/*", read_data),
    Target("images", "images", "*", read_images),
    Target("open_clip", "open_clip", "*", read_open_clip),
    Target("pickled", "pickled", "*", read_open_clip),
    Target("hf", "hf", "*", read_encoder),
    Target("language_model", "language_model", "*", read_language_model),
    Target("lists", "lists", "*", read_lists),
    Target("comparison", "comparison", "*", read_comparison),
    Target("job", "job", ".job/**/*", read_memory, is_exact=True),
    Target("ledger", "ledger", "*", read_fates),
    Target("lexicon", "lexicon", "*", read_lexicon),
    Target("tokenizer", "tokenizer", "*", read_backend),
    Target("index", "index", "**/*", read_index, is_exact=True),
    Target("curation", "curation", "*.*", read_curation),
    Target("stages", "curation", "stages/*", read_curation),
    Target("onnx", "onnx", "*", read_export, is_exact=True),
]
