import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from frugalclip.core.encoder import Modality
from frugalclip.core.errors import DataError
from frugalclip.core.preprocess import Preprocess
from frugalclip.data.manifest import image_places, make_manifest
from frugalclip.data.tokens import train_tokenizer
from frugalclip.features.embed import embed_manifest, mean_vectors
from frugalclip.features.format import read_head
from frugalclip.features.store import Store
from frugalclip.features.vectors import ManifestVectors, VectorOptions
from frugalclip.models import Model
from frugalclip.sources.open import open_data
from frugalclip.towers.dual import DualEncoder, ModelConfig

WORDS = ("red", "green", "blue", "round", "square", "small", "large", "bright", "dark", "old")


def captions_of(row):
    """Row 0 has none, row 1 one, row 2 two, and so on; rows 4 and 7 share one."""
    return [f"{WORDS[row % 10]} {'thing ' * (1 + j)}{row}" for j in range(row % 3)] + (
        ["a shared caption"] if row in (4, 7) else []
    )


def pairs(folder: Path, rows: int = 11, *, broken=(), gone=()):
    """A manifest of small pictures in PNG files; row 5 and others may be broken or gone."""
    folder.mkdir(exist_ok=True)
    for row in range(rows):
        file = folder / f"{row}.png"
        if row in gone or file.exists():
            continue
        pixels = np.random.default_rng(row).integers(0, 256, (10 + row, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
        if row in broken:
            file.write_bytes(file.read_bytes()[:-200])
    places = image_places([f"{row}.png" for row in range(rows)])
    captions = [captions_of(row) for row in range(rows)]
    return make_manifest(
        ids=[f"id-{row}" for row in range(rows)], images=places, captions=captions, root=folder, name="pairs"
    )


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def tiny_model(seed=0, size=16):
    tokenizer = train_tokenizer(
        [c for row in range(11) for c in captions_of(row)], vocabulary=1024, context=12
    )
    towers = {
        "image": {"width": 32, "depth": 1, "patch": 8, "resolution": size},
        "text": {"width": 32, "depth": 1},
    }
    config = ModelConfig.model_validate({**towers, "dim": 24})
    network = DualEncoder(config, vocabulary=tokenizer.vocabulary, context=tokenizer.context, seed=seed)
    return Model(network.eval(), tokenizer, Preprocess(size=size))


class Leaning:
    """A model whose vectors all point nearly one way, two facets a text, like a frozen language model's."""

    reads: Modality = "both"
    dim = 4
    fingerprint = "leaning"
    scale = None
    preprocess: Preprocess | None = Preprocess(size=8)
    lean = torch.tensor([50.0, 0, 0, 0])

    @property
    def description(self):
        return {"kind": "fake"}

    class tokenizer:  # noqa: N801
        fingerprint = staticmethod(lambda: "letters")
        truncated = staticmethod(lambda texts: sum(len(text) > 14 for text in texts))

    def encode_image(self, images, *, normalize=True):
        vectors = torch.stack([images.mean((1, 2, 3)), *images.mean((2, 3)).T], dim=1) + self.lean
        return torch.nn.functional.normalize(vectors, dim=-1) if normalize else vectors

    def encode_text(self, texts, *, normalize=True):
        numbers = torch.tensor(
            [[sum(map(ord, t)) % 7, len(t), t.count("t"), t.count("e")] for t in texts], dtype=torch.float32
        )
        vectors = torch.stack([numbers, numbers.flip(1)], dim=1) + self.lean
        return torch.nn.functional.normalize(vectors, dim=-1) if normalize else vectors


def contents(path):
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(Path(path).rglob("*"))
        if file.is_file()
    }


def test_the_vectors_are_those_of_the_model(model, tmp_path):
    manifest = pairs(tmp_path / "data")
    store = embed_manifest(model, manifest, tmp_path / "s", dtype="float32", batch=4, chunk_rows=5).store
    images = [Image.open(tmp_path / "data" / f"{row}.png") for row in range(11)]
    np.testing.assert_allclose(store.vectors("image"), model.encode_image(images).numpy(), atol=1e-6)
    assert store.head.encoder.scale == pytest.approx(1 / 0.07)  # of a model with two towers
    words = model.encode_text(["a red square", "a blue circle"])
    cosines = store.vectors("image") @ words.T  # (11, 2)
    torch.testing.assert_close(cosines, model.encode_image(images) @ words.T, atol=1e-5, rtol=0)
    assert torch.equal(store.vectors("image")[~store.missing("image")], store.vectors("image"))
    assert manifest.image_files(store.ids) == [tmp_path / "data" / f"{row}.png" for row in range(11)]
    texts = store.vectors("text")
    for row in range(11):
        np.testing.assert_allclose(texts[row], model.encode_text(captions_of(row)).numpy(), atol=1e-6)
    assert store.ids == manifest.ids
    assert store.head.encoder.model == model.fingerprint
    assert store.head.encoder.preprocess == model.preprocess.model_dump(mode="json")
    assert store.head.encoder.tokenizer == model.tokenizer.fingerprint()
    assert store.head.origin.fingerprint == manifest.fingerprint()
    assert store.shape("image") == (24,)


def test_vectors_may_keep_their_length(model, tmp_path):
    store = embed_manifest(
        model, pairs(tmp_path / "data"), tmp_path / "s", dtype="float32", normalize=False
    ).store
    expected = model.encode_text(captions_of(5), normalize=False).numpy()
    np.testing.assert_allclose(store.vectors("text", [5]).values, expected, atol=1e-6)
    assert abs(np.linalg.norm(expected, axis=1) - 1).min() > 0.01


def test_pictures_that_do_not_decode_are_left_out_with_their_cause(model, tmp_path):
    manifest = pairs(tmp_path / "data", broken=(2, 9), gone=(6,))
    store = embed_manifest(model, manifest, tmp_path / "s", batch=3, chunk_rows=6).store
    assert store.causes() == {"id-2": "truncated", "id-6": "missing-file", "id-9": "truncated"}
    assert store.head.missing == {"missing-file": 1, "truncated": 2}
    kept = np.flatnonzero(~store.missing("image"))
    assert kept.tolist() == [0, 1, 3, 4, 5, 7, 8, 10]
    images = [Image.open(tmp_path / "data" / f"{row}.png") for row in kept]
    np.testing.assert_allclose(store.vectors("image", kept), model.encode_image(images).numpy(), atol=1e-3)
    assert len(store.vectors("text", [2])[0]) == 2  # its captions are there


def test_a_picture_that_was_mended_is_embedded_when_asked_again(model, tmp_path):
    embed_manifest(model, pairs(tmp_path / "data", gone=(6,)), tmp_path / "s", chunk_rows=4)
    result = embed_manifest(model, pairs(tmp_path / "data"), tmp_path / "s", chunk_rows=4)
    assert (result.computed, result.reused) == (1, 2)
    assert not result.store.missing("image").any()
    embed_manifest(model, pairs(tmp_path / "data"), tmp_path / "whole", chunk_rows=4)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_one_kind_only_and_data_without_captions(model, tmp_path):
    manifest = pairs(tmp_path / "data")
    assert embed_manifest(model, manifest, tmp_path / "i", what="images").store.head.kinds == ("image",)
    texts = embed_manifest(model, manifest, tmp_path / "t", what="texts").store
    assert texts.head.encoder.preprocess is None
    assert "cause" not in texts.table.column_names
    bare = make_manifest(
        ids=["a"], images=image_places(["1.png"]), captions=[[]], root=tmp_path / "data", name="bare"
    )
    result = embed_manifest(model, bare, tmp_path / "b")
    assert (result.store.head.kinds, result.absent) == (("image",), ("text",))
    with pytest.raises(
        DataError, match="bare has no captions to embed; look at it with: frugalclip data check bare"
    ):
        embed_manifest(model, bare, tmp_path / "c", what="texts")


def test_another_model_or_preprocessing_is_refused(model, tmp_path):
    manifest = pairs(tmp_path / "data")
    embed_manifest(model, manifest, tmp_path / "s")
    other = tiny_model(seed=1)
    with pytest.raises(
        DataError,
        match=f"written with model {model.fingerprint}, now requested is model {other.fingerprint}; "
        "give another folder",
    ):
        embed_manifest(other, manifest, tmp_path / "s")
    wide = Model(model.network, model.tokenizer, model.preprocess.model_copy(update={"resize": "squash"}))
    with pytest.raises(DataError, match=r"preprocess\.resize shorter, now .*preprocess\.resize squash"):
        embed_manifest(wide, manifest, tmp_path / "s")


def test_a_grown_data_set_reuses_its_old_chunks(model, tmp_path):
    embed_manifest(model, pairs(tmp_path / "data", rows=9), tmp_path / "s", chunk_rows=4)
    result = embed_manifest(model, pairs(tmp_path / "data", rows=11), tmp_path / "s")
    assert (result.computed, result.reused) == (1, 2)
    embed_manifest(model, pairs(tmp_path / "data", rows=11), tmp_path / "whole", chunk_rows=4)
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def test_settings_that_do_not_exist_are_named(model, tmp_path):
    manifest = pairs(tmp_path / "data")
    with pytest.raises(DataError, match="what='image' is not understood; did you mean 'images'"):
        embed_manifest(model, manifest, tmp_path / "s", what="image")  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="dtype='fp16' is not understood; Known: float16, float32, int8"):
        embed_manifest(model, manifest, tmp_path / "s", dtype="fp16")  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="batch is 0, expected at least 1"):
        embed_manifest(model, manifest, tmp_path / "s", batch=0)
    assert not (tmp_path / "s").exists()


def test_an_encoder_of_texts_refuses_images(tmp_path):
    class Texts(Leaning):
        reads = "texts"
        preprocess = None

    manifest = pairs(tmp_path / "data")
    with pytest.raises(DataError, match="the encoder encodes texts and no images; set what='texts'"):
        embed_manifest(Texts(), manifest, tmp_path / "s")
    assert embed_manifest(Texts(), manifest, tmp_path / "s", what="texts").store.head.kinds == ("text",)


def test_equal_captions_of_a_chunk_are_encoded_once(tmp_path):
    seen = []

    class Counting(Leaning):
        def encode_text(self, texts, *, normalize=True):
            seen.extend(texts)
            return super().encode_text(texts, normalize=normalize)

    store = embed_manifest(Counting(), pairs(tmp_path / "data"), tmp_path / "s", what="texts", batch=2).store
    assert len(seen) == len(set(seen)) < store.head.summary["text"].vectors
    texts = store.vectors("text", [4, 7])
    np.testing.assert_array_equal(texts[0][-1], texts[1][-1])


def test_facets_keep_their_axis_and_long_captions_are_counted(tmp_path):
    store = embed_manifest(Leaning(), pairs(tmp_path / "data"), tmp_path / "s").store
    assert store.shape("text") == (2, 4)
    every = [caption for row in range(11) for caption in captions_of(row)]
    assert store.vectors("text").values.shape == (len(every), 2, 4)
    assert store.head.summary["text"].truncated == sum(len(caption) > 14 for caption in every) > 0


def test_centring_subtracts_the_kept_mean_before_the_length(tmp_path):
    manifest, model = pairs(tmp_path / "data"), Leaning()
    store = embed_manifest(model, manifest, tmp_path / "s", dtype="float32", centre=True).store
    raw = model.encode_text([c for row in range(11) for c in captions_of(row)], normalize=False)
    mean = store.mean("text")
    assert mean is not None
    np.testing.assert_allclose(mean, raw.mean(0).numpy(), rtol=1e-6)
    np.testing.assert_allclose(
        store.vectors("text").values,
        torch.nn.functional.normalize(raw - raw.mean(0), dim=-1).numpy(),
        atol=1e-5,
    )

    plain = embed_manifest(model, manifest, tmp_path / "plain", dtype="float32").store

    def likeness(vectors):
        return float(np.corrcoef(vectors).mean()), float((vectors @ vectors.T).mean())

    assert likeness(plain.vectors("text").values[:, 0])[1] > 0.9  # without it all vectors look alike
    assert abs(likeness(store.vectors("text").values[:, 0])[1]) < 0.2


def test_going_on_uses_the_mean_that_was_kept(tmp_path):
    embed_manifest(Leaning(), pairs(tmp_path / "data", rows=8), tmp_path / "s", chunk_rows=4, centre=True)
    before = Store.open(tmp_path / "s").mean("image")
    result = embed_manifest(Leaning(), pairs(tmp_path / "data", rows=11), tmp_path / "s", centre=True)
    assert (result.computed, result.reused) == (1, 2)
    np.testing.assert_array_equal(result.store.mean("image"), before)


def test_the_mean_of_many_rows_is_taken_over_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr("frugalclip.features.embed._MEAN_ROWS", 3)
    manifest = pairs(tmp_path / "data")
    with ThreadPoolExecutor(1) as pool:
        means = mean_vectors(
            Leaning(), manifest, VectorOptions(("text",), batch=4, normalize=False), pool=pool
        )
    sample = Leaning().encode_text([c for row in (0, 5, 10) for c in captions_of(row)], normalize=False)
    np.testing.assert_allclose(means["text"], sample.mean(0).numpy(), rtol=1e-6)


def test_a_chunk_does_not_depend_on_what_was_embedded_before(model, tmp_path):
    manifest = pairs(tmp_path / "data")
    with ThreadPoolExecutor(2) as pool:
        first, second = (
            ManifestVectors(model, manifest, VectorOptions(("image", "text"), batch=3), pool=pool)
            for _ in range(2)
        )
        first.encode(0, 5)
        a, b = first.encode(5, 11), second.encode(5, 11)
    for kind in ("image", "text"):
        np.testing.assert_array_equal(a[kind].values, b[kind].values)


def test_progress_rises_to_the_number_of_rows(model, tmp_path):
    seen = []
    embed_manifest(
        model,
        pairs(tmp_path / "data"),
        tmp_path / "s",
        batch=2,
        chunk_rows=6,
        progress=lambda done, total: seen.append((done, total)),
    )
    done = [d for d, _ in seen]
    assert done == sorted(done)
    assert seen[-1] == (11, 11)
    assert len(set(done)) > 4
    assert {total for _, total in seen} == {11}


def test_the_sample_through_a_real_model(model, tmp_path):
    manifest = open_data("sample").take(np.arange(0, 40))
    store = embed_manifest(model, manifest, tmp_path / "s", dtype="int8", batch=16, chunk_rows=16).store
    assert len(store) == 40
    assert store.head.missing == {}
    error = store.head.summary["image"].error
    assert 0 < error.mean <= error.max < 1e-3
    assert store.verify() == []
    rows = store.rows_for(manifest.ids[5:9], texts=manifest.captions()[5:9])
    np.testing.assert_allclose(
        store.vectors("image", rows),
        model.image_features(manifest.take(range(5, 9))).features.numpy(),
        atol=0.02,
    )


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_embed import pairs, tiny_model
from frugalclip.features.embed import embed_manifest

model = tiny_model()
calls = []
encode = model.encode_image
def encode_image(images, *, normalize=True):
    calls.append(len(images))
    if len(calls) == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(images, normalize=normalize)
model.encode_image = encode_image
manifest = pairs(Path({data!r}), broken=(2,))
result = embed_manifest(model, manifest, {out!r}, dtype="int8", batch=2, chunk_rows=4)
print(result.computed, result.reused, sum(calls))
"""


def test_killed_in_the_second_chunk_and_started_again_gives_the_same_bytes(tmp_path):
    """kill -9 between two batches of the second chunk: its first batch is computed twice, nothing else is."""
    pairs(tmp_path / "data", broken=(2,))

    def run(out, at):
        code = KILLED.format(
            tests=str(Path(__file__).parent), data=str(tmp_path / "data"), out=str(tmp_path / out), at=at
        )
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=False,
        )

    killed = run("s", at=4)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not read_head(tmp_path / "s").complete
    assert run("s", at=0).stdout.split() == ["2", "1", "7"]
    embed_manifest(
        tiny_model(),
        pairs(tmp_path / "data", broken=(2,)),
        tmp_path / "whole",
        dtype="int8",
        batch=2,
        chunk_rows=4,
    )
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")
