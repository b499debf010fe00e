"""Models by name: from the hub's cache, from a server that behaves and one that does not, or not at all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import frugalclip
from frugalclip.cli import main
from frugalclip.core.errors import ModelError
from frugalclip.interop.hub import ENVIRONMENT, cache_folder, find_source, used_models
from frugalclip.interop.hub_names import named_files
from frugalclip.interop.source import ModelSource

from ..backbones.tiny_backbones import timm_source
from .hub_server import COMMIT, Hub, serving
from .test_huggingface import saved

REPOSITORY = "our-org/tiny-clip"
SOURCE = f"hf:{REPOSITORY}"
CARD = b"---\nlicense: mit\n---\n# a model\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP as transformers saves it, with a card."""
    folder = tmp_path_factory.mktemp("clip")
    saved(folder, kind="clip", activation="quick_gelu")
    (folder / "README.md").write_bytes(CARD)
    return folder


@pytest.fixture
def hub(folder: Path) -> Hub:
    return Hub(REPOSITORY, {one.name: one.read_bytes() for one in sorted(folder.iterdir()) if one.is_file()})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and no network."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # the suite sets it


@pytest.fixture
def address(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serving(hub) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield address


def in_cache(files: dict[str, bytes], *, repository: str = REPOSITORY) -> Path:
    """Put files into the cache, in the layout of the hub's client."""
    home = cache_folder() / f"models--{repository.replace('/', '--')}"
    snapshot = home / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(COMMIT)
    (home / "blobs").mkdir()
    for place, (name, data) in enumerate(files.items()):
        (home / "blobs" / str(place)).write_bytes(data)
        (snapshot / name).symlink_to(Path("../../blobs") / str(place))
    return snapshot


def test_a_model_in_the_cache_is_read_without_a_network(hub: Hub, folder: Path):
    snapshot = in_cache(hub.files)
    model, original = frugalclip.load(SOURCE), frugalclip.load(f"hf:{folder}")
    assert model.fingerprint == original.fingerprint
    source = find_source(SOURCE)
    assert source.folder == snapshot and source.absolute == source.text == SOURCE
    record = next(one for one in used_models() if one["source"] == SOURCE)
    size = sum(len(data) for data in hub.files.values())
    assert record["revision"] == COMMIT and record["licence"] == "mit" and 0 < record["bytes"] <= size


def test_what_is_not_there_is_not_fetched_unasked(hub: Hub, address: str):
    with pytest.raises(
        ModelError, match=r"is not in the cache .* add --download to the command, or set FRUGALCLIP_"
    ):
        frugalclip.load(SOURCE)
    assert hub.requests == []


def test_a_model_is_fetched_once_and_its_hash_checked(
    hub: Hub, address: str, folder: Path, capsys: pytest.CaptureFixture[str]
):
    model = frugalclip.load(SOURCE, download=True)
    assert model.fingerprint == frugalclip.load(f"hf:{folder}").fingerprint
    shown = " ".join(capsys.readouterr().err.split())
    assert f"fetching {SOURCE}: {REPOSITORY}," in shown and f"licence mit, revision {COMMIT}" in shown
    hub.requests.clear()
    assert frugalclip.load(SOURCE, download=True).fingerprint == model.fingerprint
    assert hub.requests == []  # it is whole, so nothing is asked of the network


def test_a_cut_connection_goes_on_where_it_was(hub: Hub, address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)  # what is kept of a cut answer
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.cut = weights = "model.safetensors"
    frugalclip.load(SOURCE, download=True)
    ranges = [wanted for method, path, wanted in hub.requests if method == "GET" and path.endswith(weights)]
    assert len(ranges) == 2 and ranges[0] == "" and int(ranges[1].removeprefix("bytes=").strip("-")) > 1000


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_with_another_hash_is_refused_and_deleted(hub: Hub, address: str, name: str):
    hub.wrong = name
    with pytest.raises(ModelError, match=rf"{name} of {SOURCE} arrived with another hash"):
        frugalclip.load(SOURCE, download=True)
    hub.wrong = ""
    frugalclip.load(SOURCE, download=True)


def test_a_repository_without_weights_is_refused(hub: Hub, address: str):
    del hub.files["model.safetensors"]
    with pytest.raises(
        ModelError, match=r"has no model\.safetensors or .*its files are README\.md, config\.json"
    ):
        frugalclip.load(SOURCE, download=True)


def test_half_a_cache_names_the_file_that_lacks(hub: Hub):
    in_cache({name: data for name, data in hub.files.items() if name != "model.safetensors"})
    with pytest.raises(ModelError, match=r"has no model\.safetensors or .* is not whole; add --download"):
        frugalclip.load(SOURCE)


def test_no_network_and_no_such_repository(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(
        ModelError, match=r"could not be fetched from http://127.0.0.1:9 .* check the network"
    ):
        frugalclip.load(SOURCE, download=True)
    with serving(Hub("another/one", {})) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(ModelError, match=r"check the name, or log in"):
            frugalclip.load(SOURCE, download=True)


def test_offline_by_the_clients_own_variable_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        frugalclip.load(SOURCE, download=True)


def test_the_command_line_fetches_where_asked_and_records_it(hub: Hub, address: str, tmp_path: Path):
    words = ["import", SOURCE, "--out", str(tmp_path / "run")]
    assert main(words) == 2
    assert main([*words, "--download"]) == 0
    record = json.loads((tmp_path / "run" / "environment.json").read_text())["models"]
    assert {"repository": REPOSITORY, "revision": COMMIT, "licence": "mit"}.items() <= record[-1].items()
    assert main(["import", "hf:our-org/other", "--out", str(tmp_path / "other")]) == 2  # once is not for all
    assert not any("other" in path for _, path, _ in hub.requests)


def test_names_of_libraries_resolve_by_their_own_tables():
    files = named_files(ModelSource.parse("open_clip:ViT-B-32@laion2b_s34b_b79k"))
    assert files is not None and files.repository == "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    assert files.needed == (("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),)
    files = named_files(ModelSource.parse("timm:resnet18"))
    assert files is not None and files.repository.startswith("timm/resnet18.")
    files = named_files(ModelSource.parse("hf:org/name@v1.0"))
    assert files is not None and (files.repository, files.revision) == ("org/name", "v1.0")
    for text in (
        "hf:/a/folder",
        "hf:./a/b",
        "open_clip:ViT-B-32@weights.bin",
        "timm:resnet18@w.pth",
        "runs/a",
    ):
        assert named_files(ModelSource.parse(text)) is None, text


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            "open_clip:ViT-B-32@laion2b",
            r"has no weights 'laion2b' of ViT-B-32, and there is no such file; did you",
        ),
        ("timm:resnet1888", r"timm has no model 'resnet1888'; did you mean"),
    ],
)
def test_a_name_that_is_not_in_the_table_gets_the_nearest(source: str, sentence: str):
    with pytest.raises(ModelError, match=sentence):
        frugalclip.load(source)


def test_a_backbone_of_timm_by_name(tmp_path: Path):
    own = timm_source(tmp_path)
    name = ModelSource.parse(own).name
    weights = ModelSource.parse(own).file
    assert weights is not None
    files = named_files(ModelSource.parse(f"timm:{name}"))
    assert files is not None, f"timm's table has no weights of {name} on the hub"
    wanted: dict[str, Any] = {files.needed[0][0]: weights.read_bytes(), "README.md": CARD}
    in_cache(wanted, repository=files.repository)
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    first, second = (frugalclip.load(one) for one in (own, f"timm:{name}"))
    side = first.preprocess.size
    pixels = torch.nn.functional.interpolate(pixels, size=(side, side))
    assert torch.equal(first.encode_image(pixels), second.encode_image(pixels))
