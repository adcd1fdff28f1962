"""Random changes of bytes and of JSON; the same generator gives the same changes."""

import json
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any

EDGES = (0, 1, 2, 3, 7, 8, 15, 16, 127, 128, 255, 256, 4095, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
         2**48, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 1e308, -0.5, float("nan"), float("inf"), "", "\0",
    "é|<b>", "\ud800", "9" * 50, "avg", [], [[]], {}, [None], {"": None}, [1, 2], ["avg", "avg"], "x" * 5000,
)  # fmt: skip
DEEP = "\x01deep\x01"
"""Stands for a text that is nested more deeply than Python's parsers can follow."""


def mutate(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Change bytes at one to eight places."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 4, 8))):
        rng.choice(CHANGES)(changed, rng, others)
    return bytes(changed)


def _place(data: bytearray, rng: random.Random) -> int:
    # Headers are at the ends of a file, and matter more than the bytes between.
    size = len(data)
    near = min(size, 64)
    return max(0, rng.choice((rng.randrange(size + 1), rng.randrange(near + 1), size - rng.randrange(near + 1))) - 1)


def _flip(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    if data:
        data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _byte(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    if data:
        data[_place(data, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _number(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    code, at = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q")), _place(data, rng)
    size = struct.calcsize(code)
    old = int.from_bytes(data[at : at + size], "little" if code[0] == "<" else "big")
    new = rng.choice((*EDGES, len(data), old + 1, old - 1, old * 2))
    data[at : at + size] = struct.pack(code, new % 256**size)


def _cut(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    del data[_place(data, rng) :]


def _remove(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    at = _place(data, rng)
    del data[at : at + rng.choice((1, 2, 4, 8, 64, 1024))]


def _insert(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    at = _place(data, rng)
    data[at:at] = rng.choice((rng.randbytes(rng.randrange(1, 16)), bytes(rng.choice((1, 8, 512))), b"\n", b",", b'"'))


def _repeat(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    at, size = _place(data, rng), rng.choice((1, 4, 16, 256))
    data[at:at] = data[at : at + size] * rng.choice((1, 2, 16))


def _splice(data: bytearray, rng: random.Random, others: Sequence[bytes]) -> None:
    other = rng.choice(others)
    start = rng.randrange(len(other) + 1)
    at, size = _place(data, rng), rng.choice((8, 64, 512, len(other)))
    data[at : at + rng.choice((0, size))] = other[start : start + size]


CHANGES: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    _flip, _flip, _byte, _byte, _number, _number, _cut, _remove, _insert, _repeat, _splice
)  # fmt: skip


def edit_json(text: str, rng: random.Random) -> str:
    """Change a value, a key or the text of a JSON document; also inside a string that is JSON itself."""
    if rng.random() < 0.05:
        return mutate(text.encode("utf-8", "surrogatepass"), rng, [b'{"a": [1, "b"]}']).decode("latin-1")
    changed = json.dumps(_edited(json.loads(text), rng))
    return changed.replace(json.dumps(DEEP), "[" * 20_000 + "]" * rng.choice((0, 20_000)))


def _edited(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key, changed = rng.choice(keys), value.copy()
        match rng.randrange(8):
            case 0:
                del changed[key]
            case 1 if isinstance(changed, dict):
                changed[rng.choice(("", "unknown", "schema", "é"))] = changed.pop(key)
            case 1:
                changed.insert(key, rng.choice(changed))
            case _:
                changed[key] = _edited(value[key], rng)
        return changed
    if isinstance(value, str) and value[:1] in ("{", "[") and rng.random() < 0.9:
        return edit_json(value, rng)
    if isinstance(value, int | float) and rng.random() < 0.5:
        return rng.choice((value + 1, value - 1, -value, value * 1000, value / 3))
    return rng.choice((*VALUES, DEEP))
