"""Somebody else's code reads our exports and gives our numbers.

`make test-e2e` installs the clients into folders of their own: Python ones behind our packages, and ONNX
Runtime for Node where npm is there.
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


def test_sentence_transformers_gives_our_vectors(place: Path):
    export(str(place / "run"), to="sentence_transformers", out=place / "sentences", data=str(place / "my"))
    picture = place / "my" / "000.png"
    texts, images = result_of(sys.executable, "-c", SENTENCES, clients(), place / "sentences", picture)
    model = frugalclip.load(place / "run")
    assert np.allclose(texts, model.encode_text(["a red disc", "a blue square"]), atol=1e-4)
    assert np.min(np.sum(np.asarray(images) * model.encode_image(picture).numpy(), axis=1)) > 0.999


def test_onnx_runtime_in_node_gives_our_vectors(place: Path, tmp_path: Path):
    folder = os.environ.get("FRUGALCLIP_NODE")
    assert shutil.which("node") and folder, "install node and npm, then run make test-e2e"
    export(str(place / "run"), to="onnx", out=place / "onnx", data=str(place / "my"))
    model = frugalclip.load(place / "run")
    pixels = model.preprocess(Image.open(place / "my" / "000.png").convert("RGB"))
    ids = model.tokenizer.encode(["a red disc", "a blue square"]).ids
    given = {"pixels": pixels.flatten().tolist(), "shape": list(pixels.shape)}
    given |= {"ids": ids.flatten().tolist(), "texts": len(ids)}
    (tmp_path / "given.json").write_text(json.dumps(given))
    script = Path(folder) / "client.mjs"
    script.write_text(NODE)
    text, image = result_of("node", script, place / "onnx", tmp_path / "given.json")
    assert np.allclose(
        np.reshape(text, (2, -1)), model.encode_text(["a red disc", "a blue square"]), atol=1e-4
    )
    assert np.allclose(np.reshape(image, (1, -1)), model.encode_image(pixels), atol=1e-4)
