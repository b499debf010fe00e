"""Damage to a file: flipped, cut, swapped and inserted bytes, other types in JSON, other tensors.

Every mutation takes the bytes of a file and a source of randomness, and gives other bytes.
"""

import json
import random
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

Mutation = Callable[[bytes, random.Random], bytes]

_JUNK = [
    *(b"", b"\x00" * 64, b"\xff\xfe\xfd", b"[" * 200_000, b'{"a":' * 60_000, b"9" * 6000, b"null", b"[]"),
    *(b"5", b'"x"', b"{}", b"NaN", b"PK\x03\x04", b"PAR1", b"\x89PNG\r\n\x1a\n", b"\xef\xbb\xbf", b"\n" * 99),
]
_VALUES: list[Any] = [
    *(None, True, -1, 0, 7, 2**40, 10**18, 1.5, -0.0, 1e308, "", "x", "x" * 10_000, "a\nb\x1b[31m", "\u202e"),
    *([], {}, [None], {"a": {"b": []}}, [[[[]]]], "../../etc/passwd", "~nosuchuser", "1", "NaN"),
]
_RAW = [b"NaN", b"-Infinity", b"1e999", b"9" * 6000, b"[" * 20_000 + b"]" * 20_000, b'"\\ud800"']
_MARK = "fuzz-mark"


def flip_bits(data: bytes, draw: random.Random) -> bytes:
    """One to eight bits."""
    changed = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 2, 8])):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def flip_early(data: bytes, draw: random.Random) -> bytes:
    """A byte among the first two hundred, where headers are."""
    changed = bytearray(data)
    if changed:
        changed[draw.randrange(min(200, len(changed)))] = draw.randrange(256)
    return bytes(changed)


def cut(data: bytes, draw: random.Random) -> bytes:
    """The file ends early."""
    return data[: draw.randrange(len(data) + 1)]


def cut_start(data: bytes, draw: random.Random) -> bytes:
    """The file begins late."""
    return data[draw.randrange(len(data) + 1) :]


def swap(data: bytes, draw: random.Random) -> bytes:
    """Two spans change places."""
    if len(data) < 8:
        return data[::-1]
    size = draw.randrange(1, max(2, len(data) // 4))
    a, b = sorted(draw.randrange(len(data) - size + 1) for _ in range(2))
    if a + size > b:
        return data[::-1][:size] + data[size:]
    return data[:a] + data[b : b + size] + data[a + size : b] + data[a : a + size] + data[b + size :]


def insert(data: bytes, draw: random.Random) -> bytes:
    """Other bytes in the middle."""
    place = draw.randrange(len(data) + 1)
    return data[:place] + draw.choice(_JUNK) + data[place:]


def replace(data: bytes, draw: random.Random) -> bytes:
    """Nothing but other bytes."""
    return draw.choice(_JUNK)


def repeat(data: bytes, draw: random.Random) -> bytes:
    """A span twice."""
    a, b = sorted(draw.randrange(len(data) + 1) for _ in range(2))
    return data[:b] + data[a:b] + data[b:]


def encode_otherwise(data: bytes, draw: random.Random) -> bytes:
    """The same text in another encoding, or random bytes where it is no text."""
    try:
        return data.decode().encode(draw.choice(["utf-16", "utf-32", "utf-7"]))
    except UnicodeError:
        return draw.randbytes(min(len(data), 4096))


def change_json(data: bytes, draw: random.Random) -> bytes:
    """A value of another type, a missing key, a new one, or a number that JSON does not have."""
    try:
        content = json.loads(data)
    except ValueError:
        return _change_json_line(data, draw)
    return json.dumps(_changed(content, draw)).encode().replace(b'"fuzz-mark"', draw.choice(_RAW))


def _change_json_line(data: bytes, draw: random.Random) -> bytes:
    lines = data.splitlines()
    if not lines:
        return flip_bits(data, draw)
    place = draw.randrange(len(lines))
    try:
        row = json.loads(lines[place])
    except ValueError:
        return flip_bits(data, draw)
    changed = json.dumps(_changed(row, draw)).encode().replace(b'"fuzz-mark"', draw.choice(_RAW))
    return b"\n".join([*lines[:place], changed, *lines[place + 1 :]]) + b"\n"


def _changed(content: Any, draw: random.Random) -> Any:
    """The content with one node changed; each node is as likely as its siblings."""
    if isinstance(content, dict) and content and draw.random() < 0.85:
        key = draw.choice(sorted(content))
        kind = draw.random()
        if kind < 0.12:
            return {name: value for name, value in content.items() if name != key}
        if kind < 0.2:
            return content | {draw.choice(["", "more", "x" * 9000, key + "s"]): draw.choice(_VALUES)}
        return content | {key: _changed(content[key], draw)}
    if isinstance(content, list) and content and draw.random() < 0.85:
        place = draw.randrange(len(content))
        return [*content[:place], _changed(content[place], draw), *content[place + 1 :]]
    return _MARK if draw.random() < 0.2 else draw.choice(_VALUES)


def change_tensors(data: bytes, draw: random.Random) -> bytes:
    """A tensor of another shape, type or name, one less or more, or values that are not finite."""
    try:
        tensors = load(data)
    except Exception:
        return flip_bits(data, draw)
    if not tensors:
        return save({"fuzz": torch.ones(2)})
    key = draw.choice(sorted(tensors))
    changed = draw.choice(_TENSOR_CHANGES)(tensors[key].clone(), draw)
    others = {name: tensor for name, tensor in tensors.items() if name != key}
    kind = draw.random()
    if kind < 0.1:
        return save(others)
    if kind < 0.2:
        return save({**tensors, draw.choice(["fuzz", f"{key}.x", "x" * 3000]): changed})
    if kind < 0.3:
        return save({**others, f"{key}x": tensors[key]})
    return save({**others, key: changed.contiguous()})


def _with_value(value: float) -> Callable[[Tensor, random.Random], Tensor]:
    def change(tensor: Tensor, draw: random.Random) -> Tensor:
        flat = tensor.flatten() if tensor.is_floating_point() else tensor.float().flatten()
        if len(flat):
            flat[draw.randrange(len(flat))] = value
        return flat.reshape(tensor.shape)

    return change


_TENSOR_CHANGES: list[Callable[[Tensor, random.Random], Tensor]] = [
    *(_with_value(value) for value in (float("nan"), float("inf"), float("-inf"), -1.0, 1e30)),
    lambda tensor, draw: tensor.flatten()[: draw.randrange(tensor.numel() + 1)].clone(),
    lambda tensor, draw: torch.cat([tensor.flatten(), tensor.flatten()]),
    lambda tensor, draw: tensor[None].clone(),
    lambda tensor, draw: tensor.T.contiguous() if tensor.ndim == 2 else tensor.flatten().flip(0),
    lambda tensor, draw: torch.zeros(0),
    lambda tensor, draw: torch.zeros(()),
    lambda tensor, draw: tensor.to(draw.choice([torch.float64, torch.float16, torch.bfloat16, torch.int32])),
]

ANY: tuple[Mutation, ...] = (flip_bits, flip_early, cut, cut_start, swap, insert, replace, repeat)
TEXT: tuple[Mutation, ...] = (*ANY, encode_otherwise)
JSON: tuple[Mutation, ...] = (*TEXT, change_json, change_json, change_json, change_json)
TENSORS: tuple[Mutation, ...] = (*ANY, change_tensors, change_tensors, change_tensors, change_tensors)
BY_ENDING: dict[str, tuple[Mutation, ...]] = {
    **dict.fromkeys((".json", ".jsonl"), JSON),
    **dict.fromkeys((".yaml", ".txt", ".csv", ".tsv"), TEXT),
    ".safetensors": TENSORS,
}


def mutate(name: str, data: bytes, draw: random.Random) -> tuple[str, bytes]:
    """Damage a file.

    Args:
        name: of the file; its ending tells what fits.
        data: its content.
        draw: source of randomness.

    Returns:
        The name of the mutation, and other bytes.
    """
    mutation = draw.choice(BY_ENDING.get("." + name.rpartition(".")[2], ANY))
    return mutation.__name__, mutation(data, draw)
