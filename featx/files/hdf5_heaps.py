"""Check the global heaps of an HDF5 file. If a heap is damaged, HDF5 loops forever (in versions up to 2.0).

Attributes of variable length and virtual datasets store data in global heaps, which have no checksum. To find an object
in a heap, HDF5 steps from object to object by their sizes. If the size of an object is 0, it never returns. The checks
below read the bytes of the file directly, because HDF5 must not read a heap before the heap is checked. The structures
and numbers are defined in the HDF5 File Format Specification, version 3.
"""

from collections.abc import Iterator
from typing import BinaryIO

import h5py
import numpy as np
from h5py import h5o

LAYOUT, ATTRIBUTE, CONTINUATION = 0x08, 0x0C, 0x10
"""Types of messages in an object header."""
SHARED = 0x02
"""Flag of a message whose body is stored in another place."""
VIRTUAL = 3
"""Layout class of virtual datasets. It exists since version 4 of the layout message."""
MAX_HEADER, MAX_HEAP = 1 << 20, 1 << 28
"""Largest number of bytes of an object header, and of a heap. In a store, a header has about 1,000 bytes and a heap
4,096. The heap of a virtual store grows by about 100 bytes per part."""
MAX_OBJECTS = 1 << 16
"""Largest number of objects in a heap, because the number of an object has two bytes."""
_OBJECT = np.dtype([("index", "<u2"), ("references", "<u2"), ("reserved", "<u4"), ("size", "<u8")])


def check_layout_heap(file: h5py.File, raw: BinaryIO, address: int) -> None:
    """Check the heap of a virtual dataset. Call this before the dataset is opened, because HDF5 then reads the heap.

    Parameters
    ----------
    file : h5py.File
        The open HDF5 file.
    raw : binary file
        The same file, opened to read its bytes.
    address : int
        Address of the object's header, which is ``u`` of an ``h5py.h5l.LinkInfo``. Objects that are not virtual
        datasets are not checked.

    Raises
    ------
    ValueError
        If the heap or the header is damaged.
    """
    base = file.userblock_size
    for kind, _, body in _messages(raw, base, address):
        if kind == LAYOUT and len(body) >= 10 and body[0] >= 4 and body[1] == VIRTUAL:
            _check_heap(raw, base + int.from_bytes(body[2:10], "little"))


def check_attribute_heaps(file: h5py.File, raw: BinaryIO) -> None:
    """Check the heaps of the root group's attributes. Call this before an attribute is read.

    If eight adjacent bytes of an attribute are the address of a heap, the attribute counts as a reference to this heap.
    Only attributes of variable length are stored in heaps. Older versions of featx wrote such attributes; now featx
    writes attributes of fixed length.

    Raises
    ------
    ValueError
        If a heap or the header is damaged, or if attributes are in a place where featx does not write them.
    """
    info = h5o.get_info(file.id)
    if info.hdr.version < 2:
        raise ValueError("it is in HDF5's oldest format, which has no checksums and which featx never writes")
    if info.meta_size.attr.heap_size:
        raise ValueError("its attributes are stored in a way that featx never uses")
    base, size = file.userblock_size, raw.seek(0, 2)
    for kind, flags, body in _messages(raw, base, info.addr):
        if kind != ATTRIBUTE:
            continue
        if flags & SHARED:
            raise ValueError("its attributes are stored in a way that featx never uses")
        for address in {base + value for value in _numbers(body) if base + value < size}:
            raw.seek(address)
            if raw.read(4) == b"GCOL":
                _check_heap(raw, address)


def _messages(raw: BinaryIO, base: int, address: int) -> Iterator[tuple[int, int, bytes]]:
    """Read the type, flags and body of each message in an object header."""
    raw.seek(base + address)
    prefix = raw.read(16)
    checksummed = prefix[:4] == b"OHDR"  # version 2
    if checksummed:
        flags = prefix[5]
        width = 1 << (flags & 3)
        start = base + address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        raw.seek(start)
        blocks = [(start + width, int.from_bytes(raw.read(width), "little"))]
        head = 6 if flags & 4 else 4
    else:
        blocks, head = [(base + address + 16, int.from_bytes(prefix[8:12], "little"))], 8
    total = 0
    while blocks:
        start, length = blocks.pop()
        total += length
        if length < 0 or total > MAX_HEADER:
            raise ValueError("an object header is damaged")
        raw.seek(start)
        data, place = raw.read(length), 0
        while place + head <= len(data):
            if checksummed:
                kind, size, flags = data[place], int.from_bytes(data[place + 1 : place + 3], "little"), data[place + 3]
            else:
                kind, size = np.frombuffer(data, "<u2", 2, place).tolist()
                flags = data[place + 4]
            body = data[place + head : place + head + size]
            place += head + size
            if kind == CONTINUATION:
                offset, length = np.frombuffer(body, "<u8", 2).tolist()
                # A block of version 2 begins with a signature and ends with a checksum. Each has four bytes.
                blocks.append((base + offset + 4, length - 8) if checksummed else (base + offset, length))
            elif len(body) == size:
                yield kind, flags, body


def _numbers(data: bytes) -> set[int]:
    """Read eight bytes as a number at every position in ``data``."""
    shifted = (np.frombuffer(data[shift : shift + (len(data) - shift) // 8 * 8], "<u8") for shift in range(8))
    return {value for values in shifted for value in values.tolist()}


def _check_heap(raw: BinaryIO, address: int) -> None:
    raw.seek(address + 8)
    length = int.from_bytes(raw.read(8), "little")
    if length > MAX_HEAP:
        raise ValueError(f"a heap claims {length:,} bytes")
    data, place, objects = raw.read(max(0, length - 16)), 0, 0
    while place + _OBJECT.itemsize <= len(data):
        entry = np.frombuffer(data, _OBJECT, 1, place)[0]
        index, size = int(entry["index"]), int(entry["size"])
        # Object 0 is the free space. Its size includes its header. The size of any other object does not include its
        # header, and must be rounded up to a multiple of 8 bytes.
        step = size if index == 0 else _OBJECT.itemsize + -(-size // 8) * 8
        objects += 1
        if objects > MAX_OBJECTS or not _OBJECT.itemsize <= step <= len(data) - place:
            raise ValueError("a heap is damaged")
        place += step
