"""Write TIFF files with any tags, also with those that Pillow does not write."""

import struct
import zlib

import numpy as np

SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
Tag = tuple[int, int, bytes]
"""Type, number of values, and the bytes of the values."""


def shorts(*values: int, order: str = "<") -> Tag:
    return 3, len(values), struct.pack(f"{order}{len(values)}H", *values)


def longs(*values: int, order: str = "<") -> Tag:
    return 4, len(values), struct.pack(f"{order}{len(values)}I", *values)


def tiff(
    array: np.ndarray, order: str = "<", photometric: int = 1, *, form: int = 0, bits: int = 0, deflate: bool = False,
    planes: bool = False, tags: dict[int, Tag] | None = None, strip: bytes | None = None,
) -> bytes:  # fmt: skip
    """Write an array (height, width) or (height, width, bands) as a TIFF of one strip, or of one strip per band.

    ``strip`` replaces the bytes of the array. ``tags`` are added to those that describe the array, or replace them.
    """
    array = array.astype(array.dtype.newbyteorder(order))
    bands = array.shape[2] if array.ndim == 3 else 1
    strips = [array[..., band].tobytes() for band in range(bands)] if planes else [array.tobytes()]
    strips = [strip] if strip is not None else strips
    strips = [zlib.compress(each) for each in strips] if deflate else strips
    entries = {
        256: longs(array.shape[1], order=order),
        257: longs(array.shape[0], order=order),
        258: shorts(*[bits or 8 * array.itemsize] * bands, order=order),
        259: shorts(8 if deflate else 1, order=order),
        262: shorts(photometric, order=order),
        277: shorts(bands, order=order),
        278: longs(array.shape[0], order=order),
        279: longs(*map(len, strips), order=order),
        284: shorts(2 if planes else 1, order=order),
        339: shorts(*[form or SAMPLE_FORMATS[array.dtype.kind]] * bands, order=order),
        273: longs(*[0] * len(strips), order=order),
        **(tags or {}),
    }
    start = 8 + 2 + 12 * len(entries) + 4
    outside = {tag: entry for tag, entry in sorted(entries.items()) if len(entry[2]) > 4}
    at = start + sum(len(values) for _, _, values in outside.values())
    entries[273] = longs(*[at + sum(map(len, strips[:number])) for number in range(len(strips))], order=order)
    directory, values_outside = b"", b""
    for tag, (kind, count, values) in sorted(entries.items()):
        directory += struct.pack(order + "HHI", tag, kind, count)
        if len(values) > 4:
            directory += struct.pack(order + "I", start + len(values_outside))
            values_outside += values
        else:
            directory += values.ljust(4, b"\0")
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, len(entries))
    return header + directory + bytes(4) + values_outside + b"".join(strips)


def damage_tag(data: bytes, tag: int) -> bytes:
    """Let the value of a tag of a little-endian file be beyond the end of the file."""
    for entry in range(10, len(data) - 12, 12):
        if struct.unpack_from("<H", data, entry) == (tag,):
            return data[: entry + 8] + struct.pack("<I", 0xFFFFFFF0) + data[entry + 12 :]
    raise AssertionError(f"no tag {tag}")
