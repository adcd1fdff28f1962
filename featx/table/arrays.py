"""Strings and repeated values of millions of rows, without an object for each."""

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import cached_property
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
BATCH = 1 << 10
"""Values that are handled at once: few enough to stay in the processor's cache, and to give the collector no work."""
Indices = NDArray[np.int64]


def encode(text: str) -> bytes:
    """UTF-8; bytes of file names that are not UTF-8 stay as they are."""
    return text.encode("utf-8", "surrogateescape")


def decode(data: bytes) -> str:
    """What `encode` made the bytes of."""
    return data.decode("utf-8", "surrogateescape")


def batches(values: Iterable[T]) -> Iterator[list[T]]:
    """Lists of values, a bounded number at a time."""
    values = iter(values)
    while batch := list(itertools.islice(values, BATCH)):
        yield batch


def _encode_all(values: Sequence[str]) -> tuple[bytes, Sequence[Sized]]:
    """Strings encoded and joined, and what has the lengths of each."""
    joined = "".join(values)
    data = encode(joined)
    # As many bytes as characters: then so it is for each string.
    return data, values if len(data) == len(joined) else list(map(encode, values))


class StringArray(Sequence[str]):
    """Strings side by side in one buffer, each decoded when it is asked for.

    Parameters
    ----------
    data : bytes-like
        All strings as UTF-8; bytes that are not stand for surrogate escapes.
    edges : int64 (n + 1,)
        Where each begins, and where the last ends.
    """

    def __init__(self, data: bytes | bytearray | memoryview, edges: Indices) -> None:
        self._data, self.edges = memoryview(data), edges

    @classmethod
    def of(cls, values: Iterable[str]) -> "StringArray":
        """Collect strings, one pass."""
        return cls.of_batches(batches(values))

    @classmethod
    def of_batches(cls, values: Iterable[Sequence[str]]) -> "StringArray":
        """Collect strings that come many at a time."""
        return cls._collect(map(_encode_all, values))

    @classmethod
    def of_bytes(cls, values: Iterable[bytes]) -> "StringArray":
        """Collect strings that are encoded already, one pass."""
        return cls._collect((b"".join(batch), batch) for batch in batches(values))

    @classmethod
    def _collect(cls, parts: Iterable[tuple[bytes, Sequence[Sized]]]) -> "StringArray":
        """Collect joined strings, each with what has their lengths."""
        data, lengths = bytearray(), [np.zeros(1, np.int64)]
        for joined, values in parts:
            data += joined
            lengths.append(np.fromiter(map(len, values), np.int64, len(values)))
        return cls(data, np.cumsum(np.concatenate(lengths)))

    @classmethod
    def joined(cls, parts: Sequence["StringArray"]) -> "StringArray":
        """One after the other."""
        shifts = np.cumsum([0, *(int(part.edges[-1] - part.edges[0]) for part in parts)])
        edges = [part.edges[1:] - part.edges[0] + shift for part, shift in zip(parts, shifts, strict=False)]
        data = b"".join(part._data[part.edges[0] : part.edges[-1]] for part in parts)
        return cls(data, np.concatenate([np.zeros(1, np.int64), *edges]))

    def __reduce__(self) -> tuple[object, ...]:
        # Without the hashes, which are another process's own; an array crosses over without a copy.
        return _of_array, (np.frombuffer(self._data, np.uint8), self.edges)

    def __len__(self) -> int:
        return len(self.edges) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> "StringArray": ...
    def __getitem__(self, row: int | slice) -> "str | StringArray":
        if isinstance(row, slice):
            return self.take(np.arange(*row.indices(len(self))))
        return decode(self.encoded(range(len(self))[row]))

    def encoded(self, row: int) -> bytes:
        """One string as it lies in the buffer, of a row from 0."""
        return bytes(self._data[self.edges[row] : self.edges[row + 1]])

    def __iter__(self) -> Iterator[str]:
        return map(decode, self.all_encoded())

    def all_encoded(self) -> Iterator[bytes]:
        """Each string as it lies in the buffer."""
        return itertools.chain.from_iterable(map(self._batch, range(0, len(self), BATCH)))

    def _batch(self, first: int) -> list[bytes]:
        edges = self.edges[first : first + BATCH + 1]
        data, places = bytes(self._data[edges[0] : edges[-1]]), (edges - edges[0]).tolist()
        return [data[start:stop] for start, stop in itertools.pairwise(places)]

    def take(self, rows: Indices) -> "StringArray":
        """The strings of those rows, in their order."""
        starts, lengths = self.edges[rows], np.diff(self.edges)[rows]
        data, stops = bytearray(), starts + lengths
        for first in range(0, len(rows), BATCH):
            part = slice(first, first + BATCH)
            places = map(slice, starts[part].tolist(), stops[part].tolist())
            data += b"".join(map(self._data.__getitem__, places))
        return StringArray(data, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))

    def is_rising(self) -> bool:
        """Whether each string is greater, by its bytes, than the one before."""
        last: list[bytes] = []
        for batch in map(self._batch, range(0, len(self), BATCH)):
            if not all(map(operator.lt, last + batch, batch if last else batch[1:])):
                return False
            last = batch[-1:]
        return True

    def order(self) -> Indices:
        """The rows sorted by their bytes, equal ones in their order."""
        values = list(self.all_encoded())
        return np.array(sorted(range(len(values)), key=values.__getitem__), np.int64)

    def find(self, others: "StringArray") -> Indices:
        """For each of ``others`` the first row that has it, -1 if none has."""
        if not len(others):
            return np.zeros(0, np.int64)
        wanted = np.fromiter(map(hash, others.all_encoded()), np.int64, len(others))
        hashes, order = self._hashed
        places = np.searchsorted(hashes, wanted, sorter=order)
        return np.array(
            [self._first(value, order, place, hashes, code) for value, place, code in
             zip(others.all_encoded(), places.tolist(), wanted.tolist(), strict=True)], np.int64
        )  # fmt: skip

    @cached_property
    def _hashed(self) -> tuple[Indices, Indices]:
        """A hash of each string, and the rows in the order of the hashes."""
        hashes = np.fromiter(map(hash, self.all_encoded()), np.int64, len(self))
        return hashes, np.argsort(hashes, kind="stable")

    def _first(self, value: bytes, order: Indices, place: int, hashes: Indices, code: int) -> int:
        """The first row with a value among those of its hash, which stand together from ``place`` on."""
        while place < len(order) and hashes[order[place]] == code:
            if self.encoded(int(order[place])) == value:
                return int(order[place])
            place += 1
        return -1


def _of_array(data: NDArray[np.uint8], edges: Indices) -> StringArray:
    return StringArray(data.data, edges)


class CategoricalArray(Sequence[T], Generic[T]):
    """Values that repeat: ``values`` are the different ones, ``codes`` (int32, one a row) say which each row has."""

    def __init__(self, values: Sequence[T], codes: NDArray[np.int32]) -> None:
        self.values, self.codes = values, codes

    @classmethod
    def of(cls, rows: Iterable[T]) -> "CategoricalArray[T]":
        """Collect values, one pass."""
        code_of: dict[T, int] = {}
        codes = np.fromiter((code_of.setdefault(value, len(code_of)) for value in rows), np.int32)
        return cls(tuple(code_of), codes)

    @classmethod
    def filled(cls, value: T, count: int) -> "CategoricalArray[T]":
        """The same value in every row."""
        return cls((value,), np.zeros(count, np.int32))

    @classmethod
    def joined(cls, parts: Sequence["CategoricalArray[T]"]) -> "CategoricalArray[T]":
        """One after the other."""
        code_of: dict[T, int] = {}
        codes = []
        for part in parts:
            recode = np.array([code_of.setdefault(value, len(code_of)) for value in part.values], np.int32)
            codes.append(recode[part.codes] if len(part.codes) else part.codes)
        return cls(tuple(code_of), np.concatenate(codes))

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, row: int) -> T: ...
    @overload
    def __getitem__(self, row: slice) -> "CategoricalArray[T]": ...
    def __getitem__(self, row: int | slice) -> "T | CategoricalArray[T]":
        return (
            CategoricalArray(self.values, self.codes[row]) if isinstance(row, slice) else self.values[self.codes[row]]
        )

    def __iter__(self) -> Iterator[T]:
        return map(self.values.__getitem__, self.codes.tolist())

    def take(self, rows: Indices) -> "CategoricalArray[T]":
        """The values of those rows, in their order."""
        return CategoricalArray(self.values, self.codes[rows])

    def used(self) -> list[T]:
        """The different values that some row has."""
        return [self.values[code] for code in np.unique(self.codes).tolist()]
