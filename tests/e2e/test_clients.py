"""Somebody else's code reads our exports and gives our numbers.

`make test-e2e` installs the clients into folders of their own: Python ones behind our packages, and ONNX
Runtime and transformers.js for Node.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import frugalclip
from frugalclip.verbs.evaluate import evaluate
from frugalclip.verbs.export import export
from frugalclip.verbs.train import train

from .test_new_user import draw

pytestmark = pytest.mark.e2e

BENCHMARK = """
import json, sys
sys.path.append(sys.argv[1])  # behind our own packages
import open_clip, torch
from pathlib import Path
from PIL import Image
from clip_benchmark.metrics.zeroshot_retrieval import evaluate
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:" + sys.argv[2])
model.eval()
tokenizer = open_clip.get_tokenizer("local-dir:" + sys.argv[2])
pairs = [(preprocess(Image.open(file).convert("RGB")), [file.with_suffix(".txt").read_text().strip()])
         for file in sorted(Path(sys.argv[3]).glob("*.png"))]
loader = [(torch.stack([image for image, _ in pairs]), [texts for _, texts in pairs])]
print("RESULT " + json.dumps(evaluate(model, loader, tokenizer, "cpu", amp=False, recall_k_list=[1, 5])))
"""
SENTENCES = """
import json, sys
sys.path.append(sys.argv[1])
from sentence_transformers import SentenceTransformer
from PIL import Image
model = SentenceTransformer(sys.argv[2], device="cpu")
texts = model.encode(["a red disc", "a blue square"], normalize_embeddings=True)
images = model.encode([Image.open(sys.argv[3])], normalize_embeddings=True)
print("RESULT " + json.dumps([texts.tolist(), images.tolist()]))
"""
RETRIEVAL = """
import json, sys
sys.path.append(sys.argv[1])
import mteb
from datasets import Dataset
from pathlib import Path
from PIL import Image
from sentence_transformers import SentenceTransformer
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.mocks import mock_tasks as mocks
from mteb.models.model_implementations import clip_models
from mteb.models.sentence_transformer_wrapper import SentenceTransformerEncoderWrapper
files = sorted(Path(sys.argv[3]).glob("*.png"))
sides = {"image": [Image.open(file).convert("RGB") for file in files],
         "text": [file.with_suffix(".txt").read_text().strip() for file in files]}

def on_our_pairs(task, asks, answers):
    ids = [str(i) for i in range(len(files))]
    data = RetrievalSplitData(
        queries=Dataset.from_dict({"id": ["q" + i for i in ids], asks: sides[asks]}),
        corpus=Dataset.from_dict({"id": ids, answers: sides[answers]}),
        relevant_docs={"q" + i: {i: 1} for i in ids}, top_ranked=None)
    task.dataset, task.data_loaded = {"default": {"test": data}}, True
    return task

if sys.argv[4] == "huggingface":
    model = clip_models.CLIPModel(sys.argv[2], revision=None, device="cpu")
else:
    model = SentenceTransformerEncoderWrapper(SentenceTransformer(sys.argv[2], device="cpu"))
meta = {"name": "ours/" + sys.argv[4], "revision": "0"}
model.mteb_model_meta = clip_models.clip_vit_base_patch32.model_copy(update=meta)
tasks = [mocks.MockZeroShotClassificationTask(), mocks.MockImageTextPairClassificationTask(),
         mocks.MockAny2AnyRetrievalI2TTask(), mocks.MockAny2AnyRetrievalT2ITask(),
         on_our_pairs(mocks.MockAny2AnyRetrievalI2TTask(), "image", "text"),
         on_our_pairs(mocks.MockAny2AnyRetrievalT2ITask(), "text", "image")]
done = [mteb.evaluate(model, task, cache=None, show_progress_bar=False) for task in tasks]
scores = [one.task_results[0].scores["test"][0] for one in done]
mock = {task.metadata.name: one["main_score"] for task, one in zip(tasks[:4], scores)}
own = [{depth: one[f"recall_at_{depth}"] for depth in (1, 5)} for one in scores[4:]]
print("RESULT " + json.dumps([mock, own]))
"""
TRANSFORMERS_JS = """
import { env, AutoProcessor, AutoTokenizer, CLIPTextModelWithProjection, CLIPVisionModelWithProjection,
         RawImage } from "@huggingface/transformers";
import { basename, dirname } from "path";
const [folder, ...files] = process.argv.slice(2);
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const name = basename(folder), options = { dtype: "fp32" };
const tokenizer = await AutoTokenizer.from_pretrained(name);
const given = tokenizer(["a red disc", "A  BLUE square"], { padding: "max_length", truncation: true });
const text = await (await CLIPTextModelWithProjection.from_pretrained(name, options))(given);
const processor = await AutoProcessor.from_pretrained(name);
const model = await CLIPVisionModelWithProjection.from_pretrained(name, options);
const images = [];
for (const file of files) {
  const { pixel_values } = await processor(await RawImage.read(file));
  images.push((await model({ pixel_values })).image_embeds.tolist()[0]);
}
console.log("RESULT " + JSON.stringify([text.text_embeds.tolist(), images]));
"""
NODE = """
import * as ort from "onnxruntime-node";
import { readFileSync } from "fs";
const [folder, file] = process.argv.slice(2);
const given = JSON.parse(readFileSync(file));
const run = async (graph, name, type, values, dims) => {
  const session = await ort.InferenceSession.create(`${folder}/${graph}.onnx`);
  const out = await session.run({ [name]: new ort.Tensor(type, values, dims) });
  return Array.from(out.embedding.data);
};
const image = await run("image", "pixels", "float32", Float32Array.from(given.pixels), given.shape);
const ids = BigInt64Array.from(given.ids.map(BigInt));
const text = await run("text", "ids", "int64", ids, [given.texts, given.ids.length / given.texts]);
console.log("RESULT " + JSON.stringify([text, image]));
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of distinct captions, and a model that was trained on them."""
    place = tmp_path_factory.mktemp("clients")
    draw(place / "my", 48, seed=1)
    for file in (place / "my").glob("*.txt"):
        file.write_text(f"{file.read_text().strip()} number {file.stem}")
    words = [f"data={place / 'my'}", "data.validation=none", "epochs=", "steps=8", "batch=16", "threads=1"]
    train("clip", words, out=place / "run")
    return place


def clients() -> str:
    """The folder of the Python clients."""
    folder = os.environ.get("FRUGALCLIP_CLIENTS")
    assert folder and Path(folder).is_dir(), "run it with 'make test-e2e', which installs the clients"
    return folder


def node_folder() -> Path:
    """The folder of the clients for Node."""
    folder = os.environ.get("FRUGALCLIP_NODE")
    assert shutil.which("node") and folder, "install node and npm, then run make test-e2e"
    return Path(folder)


def result_of(*command: object) -> list:
    """What a program printed behind RESULT."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=600, check=False
    )
    line = next((one for one in done.stdout.splitlines() if one.startswith("RESULT ")), None)
    assert line is not None, done.stderr[-2000:]
    return json.loads(line.removeprefix("RESULT "))


def test_clip_benchmark_measures_on_our_export_what_evaluate_does(place: Path):
    export(str(place / "run"), to="open_clip", out=place / "open_clip", data=str(place / "my"))
    theirs = result_of(sys.executable, "-c", BENCHMARK, clients(), place / "open_clip", place / "my")
    ours = evaluate(place / "run", data=place / "my", task="retrieval")["metrics"]
    for depth in (1, 5):
        found = {
            "t2i": theirs[f"image_retrieval_recall@{depth}"],  # pyright: ignore[reportArgumentType]
            "i2t": theirs[f"text_retrieval_recall@{depth}"],  # pyright: ignore[reportArgumentType]
        }
        for way, value in found.items():
            assert 100 * float(value) == pytest.approx(ours[f"{way}_r{depth}"], abs=1e-3)


@pytest.mark.parametrize("to", ["huggingface", "sentence_transformers"])
def test_mteb_runs_its_image_text_tasks_on_our_export_and_measures_what_evaluate_does(to: str, place: Path):
    folder = place / f"mteb-{to}"
    export(str(place / "run"), to=to, out=folder, data=str(place / "my"))
    mock, own = result_of(sys.executable, "-c", RETRIEVAL, clients(), folder, place / "my", to)
    assert len(mock) == 4 and all(0 <= value <= 1 for value in mock.values())
    ours = evaluate(place / "run", data=place / "my", task="retrieval")["metrics"]
    for way, theirs in zip(("i2t", "t2i"), own, strict=True):
        for depth in ("1", "5"):
            assert 100 * theirs[depth] == pytest.approx(ours[f"{way}_r{depth}"], abs=1e-2)


def test_sentence_transformers_gives_our_vectors(place: Path):
    export(str(place / "run"), to="sentence_transformers", out=place / "sentences", data=str(place / "my"))
    picture = place / "my" / "000.png"
    texts, images = result_of(sys.executable, "-c", SENTENCES, clients(), place / "sentences", picture)
    model = frugalclip.load(place / "run")
    assert np.allclose(texts, model.encode_text(["a red disc", "a blue square"]), atol=1e-4)
    assert np.min(np.sum(np.asarray(images) * model.encode_image(picture).numpy(), axis=1)) > 0.999


def test_onnx_runtime_in_node_gives_our_vectors(place: Path, tmp_path: Path):
    folder = node_folder()
    export(str(place / "run"), to="onnx", out=place / "onnx", data=str(place / "my"))
    model = frugalclip.load(place / "run")
    pixels = model.preprocess(Image.open(place / "my" / "000.png").convert("RGB"))
    ids = model.tokenizer.encode(["a red disc", "a blue square"]).ids
    given = {"pixels": pixels.flatten().tolist(), "shape": list(pixels.shape)}
    given |= {"ids": ids.flatten().tolist(), "texts": len(ids)}
    (tmp_path / "given.json").write_text(json.dumps(given))
    script = folder / "client.mjs"
    script.write_text(NODE)
    text, image = result_of("node", script, place / "onnx", tmp_path / "given.json")
    assert np.allclose(
        np.reshape(text, (2, -1)), model.encode_text(["a red disc", "a blue square"]), atol=1e-4
    )
    assert np.allclose(np.reshape(image, (1, -1)), model.encode_image(pixels), atol=1e-4)


def test_transformers_js_gives_our_vectors(place: Path, tmp_path: Path):
    folder = place / "transformers_js"
    export(str(place / "run"), to="onnx", out=folder, data=str(place / "my"), layout="transformers.js")
    small = place / "my" / "000.png"  # 72 x 64, as high as the model's input
    large = tmp_path / "large.png"
    Image.open(small).resize((288, 256), Image.Resampling.BICUBIC).save(large)
    script = node_folder() / "transformers.mjs"
    script.write_text(TRANSFORMERS_JS)
    text, images = result_of("node", script, folder, small, large)
    model = frugalclip.load(place / "run")
    assert np.allclose(text, model.encode_text(["a red disc", "A  BLUE square"]), atol=1e-4)
    assert np.allclose(images[0], model.encode_image(small)[0], atol=1e-4)
    # pictures that are made smaller pass through another library's resizing
    assert np.dot(images[1], model.encode_image(large)[0].numpy()) > 0.99
