import importlib
from pathlib import Path

import pytest

from frugalclip.core.errors import DataError
from frugalclip.evaluation import prompts
from frugalclip.evaluation.prompts import fill, find_prompts, prompt_sets


@pytest.mark.parametrize("name", prompt_sets())
def test_every_set_has_a_place_for_the_name(name):
    prompts = find_prompts(name)
    assert prompts
    assert all(prompt.count("{}") == 1 for prompt in prompts)
    assert len(set(prompts)) == len(prompts)


def test_plain_is_the_name_alone_and_braces_in_names_stay():
    assert fill(find_prompts("plain"), "a {set} of {}") == ["a {set} of {}"]
    assert fill(["a {} b", "{} and {}"], "x") == ["a x b", "x and x"]


def test_a_file_of_prompts(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("\ufeff# ours\na picture of {}\n\n{}\n{}\n", encoding="utf-8")
    assert find_prompts(path) == ["a picture of {}", "{}"]
    path.write_text("a picture\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"'a picture' without \{\}"):
        find_prompts(path)
    path.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no prompt"):
        find_prompts(path)


def test_a_misspelt_set_is_named_with_the_right_one():
    with pytest.raises(DataError, match="'phot' is neither a prompt set nor a file; did you mean 'photo'"):
        find_prompts("phot")


def test_templates_of_clip_benchmark_and_files_of_windows(tmp_path):
    path = tmp_path / "zeroshot_classification_templates.txt"
    path.write_text("a photo of a {c}.\nart of the {c}.\n", encoding="utf-16")
    assert find_prompts(path) == ["a photo of a {}.", "art of the {}."]
    path.write_bytes("ein Foto für {}".encode("latin-1"))
    with pytest.raises(DataError, match="is not UTF-8; convert it"):
        find_prompts(path)


def test_the_imagenet_sets_are_those_of_the_field():
    metadata = importlib.import_module("open_clip.zero_shot_metadata")
    assert find_prompts("imagenet") == [one("{}") for one in metadata.OPENAI_IMAGENET_TEMPLATES]
    assert find_prompts("imagenet_simple") == [one("{}") for one in metadata.SIMPLE_IMAGENET_TEMPLATES]
    assert len(find_prompts("imagenet")) == 80
    assert "MIT" in Path(prompts.__file__).with_name("prompts.NOTICE").read_text(encoding="utf-8")
