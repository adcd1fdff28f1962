"""Checking the heaps of a store's attributes, on which HDF5 would else not come back.

Texts of variable length, as the attributes are, lie in HDF5's global heaps, which have no checksum. HDF5 goes through
the objects of a heap by the length of each, and never ends if the free one at its end claims to be of length 0.
"""

from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
from h5py import h5o

HEAP, CHUNK = b"GCOL", b"OCHK"
MAX_HEADER, MAX_HEAP = 1 << 20, 1 << 24
"""Bytes of the group's header, and of a heap; those of a store have a thousand, and four thousand."""
_OBJECT = np.dtype([("index", "<u2"), ("references", "<u2"), ("reserved", "<u4"), ("size", "<u8")])


def check_heaps(file: h5py.File, path: Path) -> None:
    """Raise ``ValueError`` if HDF5 could not go through a heap that an attribute of the file itself may lie in.

    Every 8 bytes in the header of the root group that are the address of a heap are taken for one.
    """
    info = h5o.get_info(file.id)
    header = info.hdr
    if header.version < 2 or info.meta_size.attr.heap_size or header.space.total > MAX_HEADER:
        raise ValueError("its header is none of featx")
    with path.open("rb") as raw:
        waiting, seen = [int(info.addr)], set[int]()
        while waiting:
            for address in _addresses(raw, waiting.pop(), header.space.total) - seen:
                seen.add(address)
                raw.seek(address)
                signature = raw.read(4)
                if signature == HEAP:
                    _check_heap(raw, address)
                elif signature == CHUNK:
                    waiting.append(address)


def _addresses(raw: BinaryIO, start: int, length: int) -> set[int]:
    """All numbers of 8 bytes that are places in the file."""
    size = raw.seek(0, 2)
    raw.seek(start)
    data = raw.read(length)
    shifted = (np.frombuffer(data[shift : shift + (len(data) - shift) // 8 * 8], "<u8") for shift in range(8))
    return {value for values in shifted for value in values[values < size].tolist()}


def _check_heap(raw: BinaryIO, address: int) -> None:
    raw.seek(address + 8)
    length = int.from_bytes(raw.read(8), "little")
    if length > MAX_HEAP:
        raise ValueError(f"a heap claims {length:,} bytes")
    data, place = raw.read(length - 16), 0
    while place + _OBJECT.itemsize <= len(data):
        entry = np.frombuffer(data, _OBJECT, 1, place)[0]
        index, size = int(entry["index"]), int(entry["size"])
        # The length of the free object, number 0, counts what says so; the others' does not, and is padded to 8.
        step = size if index == 0 else _OBJECT.itemsize + -(-size // 8) * 8
        if not _OBJECT.itemsize <= step <= len(data) - place:
            raise ValueError("a heap is damaged")
        place += step
