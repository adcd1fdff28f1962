"""Arrays for columns of millions of rows: strings in one buffer, and repeated values as codes.

One Python object per row would take about 80 bytes per row. numpy's ``StringDType`` and Arrow's string type cannot
replace `StringArray`, because both refuse file names that are not valid UTF-8.
"""

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import cached_property
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
BATCH = 1 << 10
"""Number of values in a batch. A batch fits in the processor's cache and does not start Python's garbage collector."""
Indices = NDArray[np.int64]


def encode_text(text: str) -> bytes:
    """Encode a file name as UTF-8. Surrogate escapes become the original bytes, which are not valid UTF-8."""
    return text.encode("utf-8", "surrogateescape")


def decode_text(data: bytes) -> str:
    """Decode bytes that `encode_text` returned."""
    return data.decode("utf-8", "surrogateescape")


def batched(values: Iterable[T]) -> Iterator[list[T]]:
    """Split an iterable into lists of at most `BATCH` values."""
    values = iter(values)
    while batch := list(itertools.islice(values, BATCH)):
        yield batch


def _encode_all(values: Sequence[str]) -> tuple[bytes, Sequence[Sized]]:
    """Encode strings as one bytes object. Also return objects whose ``len`` is the length of each string in bytes."""
    joined = "".join(values)
    data = encode_text(joined)
    # If there are as many bytes as characters, the text is ASCII. Then the strings themselves have the right ``len``.
    return data, values if len(data) == len(joined) else list(map(encode_text, values))


class StringArray(Sequence[str]):
    """An immutable sequence of strings in one buffer. A string is decoded only when it is accessed.

    Parameters
    ----------
    data : bytes-like
        All strings, encoded with `encode_text`, one after the other.
    offsets : int64 (n + 1,)
        The position in ``data`` at which each string begins, followed by the position at which the last one ends.
    """

    def __init__(self, data: bytes | bytearray | memoryview, offsets: Indices) -> None:
        self._data, self._offsets = memoryview(data), offsets

    @classmethod
    def from_strings(cls, values: Iterable[str]) -> "StringArray":
        """Create an array from strings, in one pass."""
        return cls.from_batches(batched(values))

    @classmethod
    def from_batches(cls, values: Iterable[Sequence[str]]) -> "StringArray":
        """Create an array from lists of strings, in one pass."""
        return cls._collect(map(_encode_all, values))

    @classmethod
    def from_bytes(cls, values: Iterable[bytes]) -> "StringArray":
        """Create an array from encoded strings, in one pass."""
        return cls._collect((b"".join(batch), batch) for batch in batched(values))

    @classmethod
    def _collect(cls, parts: Iterable[tuple[bytes, Sequence[Sized]]]) -> "StringArray":
        """Create an array from pairs, as `_encode_all` returns them: encoded text, and objects with the lengths."""
        data, lengths = bytearray(), [np.zeros(1, np.int64)]
        for joined, values in parts:
            data += joined
            lengths.append(np.fromiter(map(len, values), np.int64, len(values)))
        return cls(data, np.cumsum(np.concatenate(lengths)))

    @classmethod
    def concatenate(cls, parts: Sequence["StringArray"]) -> "StringArray":
        """Join arrays into one."""
        shifts = np.cumsum([0, *(int(part._offsets[-1] - part._offsets[0]) for part in parts)])
        offsets = [part._offsets[1:] - part._offsets[0] + shift for part, shift in zip(parts, shifts, strict=False)]
        data = b"".join(part._data[part._offsets[0] : part._offsets[-1]] for part in parts)
        return cls(data, np.concatenate([np.zeros(1, np.int64), *offsets]))

    def __reduce__(self) -> tuple[object, ...]:
        # The cached hashes are not pickled, because each Python process has other hashes. The buffer is pickled as an
        # array, so that joblib and Ray share it without a copy.
        return _unpickle, (np.frombuffer(self._data, np.uint8), self._offsets)

    def __repr__(self) -> str:
        shown = ", ".join(repr(value) for value in itertools.islice(self, 3))
        return f"StringArray([{shown}{', …' if len(self) > 3 else ''}], length {len(self):,})"

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> "StringArray": ...
    def __getitem__(self, row: int | slice) -> "str | StringArray":
        if isinstance(row, slice):
            return self.take(np.arange(*row.indices(len(self))))
        return decode_text(self._bytes_at(range(len(self))[row]))

    def _bytes_at(self, row: int) -> bytes:
        """Return the encoded string of a row; ``row`` must not be negative."""
        return bytes(self._data[self._offsets[row] : self._offsets[row + 1]])

    def __iter__(self) -> Iterator[str]:
        return map(decode_text, self.iter_bytes())

    def iter_bytes(self) -> Iterator[bytes]:
        """Iterate over the encoded strings."""
        return itertools.chain.from_iterable(map(self._batch, range(0, len(self), BATCH)))

    def _batch(self, first: int) -> list[bytes]:
        offsets = self._offsets[first : first + BATCH + 1]
        data, places = bytes(self._data[offsets[0] : offsets[-1]]), (offsets - offsets[0]).tolist()
        return [data[start:stop] for start, stop in itertools.pairwise(places)]

    def take(self, rows: Indices) -> "StringArray":
        """Return the strings of ``rows``, in that order."""
        starts, lengths = self._offsets[rows], np.diff(self._offsets)[rows]
        data, stops = bytearray(), starts + lengths
        for first in range(0, len(rows), BATCH):
            part = slice(first, first + BATCH)
            places = map(slice, starts[part].tolist(), stops[part].tolist())
            data += b"".join(map(self._data.__getitem__, places))
        return StringArray(data, np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]))

    def is_sorted(self) -> bool:
        """Return whether each string is greater than the one before, compared by bytes. Equal strings give False."""
        last: list[bytes] = []
        for batch in map(self._batch, range(0, len(self), BATCH)):
            if not all(map(operator.lt, last + batch, batch if last else batch[1:])):
                return False
            last = batch[-1:]
        return True

    def argsort(self) -> Indices:
        """Return the row numbers that sort the strings by their bytes; equal strings keep their order."""
        values = list(self.iter_bytes())
        return np.array(sorted(range(len(values)), key=values.__getitem__), np.int64)

    def find(self, others: "StringArray") -> Indices:
        """Find the rows of strings in this array.

        Parameters
        ----------
        others : StringArray
            The strings to find.

        Returns
        -------
        int64 (len(others),)
            For each of ``others``, the number of the first row with this string; -1 if no row has it.
        """
        if not len(others):
            return np.zeros(0, np.int64)
        wanted = np.fromiter(map(hash, others.iter_bytes()), np.int64, len(others))
        hashes, order = self._hashed
        places = np.searchsorted(hashes, wanted, sorter=order)
        return np.array(
            [self._first(value, order, place, hashes, code) for value, place, code in
             zip(others.iter_bytes(), places.tolist(), wanted.tolist(), strict=True)], np.int64
        )  # fmt: skip

    @cached_property
    def _hashed(self) -> tuple[Indices, Indices]:
        """The hash of each string, and the row numbers that sort the hashes."""
        hashes = np.fromiter(map(hash, self.iter_bytes()), np.int64, len(self))
        return hashes, np.argsort(hashes, kind="stable")

    def _first(self, value: bytes, order: Indices, place: int, hashes: Indices, code: int) -> int:
        """Return the first row with the string ``value``. In ``order``, rows with its hash start at ``place``."""
        while place < len(order) and hashes[order[place]] == code:
            if self._bytes_at(int(order[place])) == value:
                return int(order[place])
            place += 1
        return -1


def _unpickle(data: NDArray[np.uint8], offsets: Indices) -> StringArray:
    return StringArray(data.data, offsets)


class CategoricalArray(Sequence[T], Generic[T]):
    """An immutable sequence of repeated values. It is like ``pandas.Categorical``, but values may have any type.

    Parameters
    ----------
    categories : sequence
        The distinct values.
    codes : int32 (n,)
        The index into ``categories`` of each row's value.
    """

    def __init__(self, categories: Sequence[T], codes: NDArray[np.int32]) -> None:
        self.categories, self.codes = categories, codes

    @classmethod
    def from_values(cls, values: Iterable[T]) -> "CategoricalArray[T]":
        """Create an array from values, in one pass."""
        code_of: dict[T, int] = {}
        codes = np.fromiter((code_of.setdefault(value, len(code_of)) for value in values), np.int32)
        return cls(tuple(code_of), codes)

    @classmethod
    def full(cls, value: T, length: int) -> "CategoricalArray[T]":
        """Create an array with the same value in every row."""
        return cls((value,), np.zeros(length, np.int32))

    @classmethod
    def concatenate(cls, parts: Sequence["CategoricalArray[T]"]) -> "CategoricalArray[T]":
        """Join arrays into one; a category that occurs in several arrays becomes one category."""
        code_of: dict[T, int] = {}
        codes = []
        for part in parts:
            recode = np.array([code_of.setdefault(value, len(code_of)) for value in part.categories], np.int32)
            codes.append(recode[part.codes] if len(part.codes) else part.codes)
        return cls(tuple(code_of), np.concatenate(codes))

    def __repr__(self) -> str:
        return f"CategoricalArray({len(self.categories):,} categories, length {len(self):,})"

    def __len__(self) -> int:
        return len(self.codes)

    @overload
    def __getitem__(self, row: int) -> T: ...
    @overload
    def __getitem__(self, row: slice) -> "CategoricalArray[T]": ...
    def __getitem__(self, row: int | slice) -> "T | CategoricalArray[T]":
        if isinstance(row, slice):
            return CategoricalArray(self.categories, self.codes[row])
        return self.categories[int(self.codes[row])]

    def __iter__(self) -> Iterator[T]:
        return map(self.categories.__getitem__, self.codes.tolist())

    def take(self, rows: Indices) -> "CategoricalArray[T]":
        """Return the values of ``rows``, in that order."""
        return CategoricalArray(self.categories, self.codes[rows])

    def used_categories(self) -> list[T]:
        """Return the categories that occur in at least one row."""
        return [self.categories[code] for code in np.unique(self.codes).tolist()]
