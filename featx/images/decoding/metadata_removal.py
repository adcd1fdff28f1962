"""Remove the metadata of an image file: texts, profiles, thumbnails and all else that is not needed for its pixels.

Pillow refuses a file whose metadata is damaged or very large. The pixels do not depend on the metadata, so such a file
is tried again without it. Only the EXIF orientation is kept, if it can be read.
"""

import struct
import zlib
from collections.abc import Callable, Iterator

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_KEPT = frozenset({b"tRNS", b"eXIf"})
"""Ancillary chunks of a PNG that are kept if they are intact: transparency and EXIF."""
TRNS_BYTES = {0: 2, 2: 6}
"""Number of bytes of the transparent color of a PNG, by color type: gray and RGB."""
JPEG_SOI, JPEG_SOS, JPEG_COMMENT = 0xD8, 0xDA, 0xFE
JPEG_APP = range(0xE0, 0xF0)
JPEG_KEPT = {0xE0: (b"JFIF", 7), 0xE1: (b"Exif\0\0", 6), 0xEE: (b"Adobe", 12)}
"""Application segments of a JPEG that are kept, each with its first bytes and its smallest length. The first and the
last segment say how the colors are stored."""
TIFF_KEPT = frozenset({
    256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325, 332, 338, 339,
    347, 512, 513, 514, 515, 519, 520, 521, 529, 530, 531, 532,
})  # fmt: skip
"""Tags of a TIFF that say how its pixels are stored."""
TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Number of bytes of one value, by the type of a tag."""
WEBP_PIXELS = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
WEBP_METADATA_FLAGS = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}


def without_metadata(name: str, data: bytes) -> bytes | None:
    """Return a copy of an image file with the same pixels and without metadata.

    Parameters
    ----------
    name : str
        Pillow's name of the format.
    data : bytes
        The whole file.

    Returns
    -------
    bytes or None
        None if there is no metadata to remove, or if the metadata cannot be found because the file is damaged.
    """
    remove = REMOVERS.get(name)
    try:
        bare = remove(data) if remove else None
    except (struct.error, IndexError):
        return None
    return None if bare == data else bare


def _png(data: bytes) -> bytes:
    kept = [PNG_SIGNATURE]
    color = data[25]
    for kind, body, checksum in _png_chunks(data):
        critical = kind[:1].isupper()
        intact = checksum == struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))
        if kind == b"tRNS":
            intact &= len(body) >= TRNS_BYTES.get(color, 1)
        if critical or (kind in PNG_KEPT and intact):
            kept += [struct.pack(">I", len(body)), kind, body, checksum]
    return b"".join(kept)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield the name, the body and the checksum of each chunk. Add an end chunk if the file has none."""
    position = len(PNG_SIGNATURE)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind, stop = data[position + 4 : position + 8], position + 8 + length
        if stop + 4 > len(data) and kind[:1].islower():
            break
        yield kind, data[position + 8 : stop], data[stop : stop + 4]
        if kind == b"IEND":
            return
        position = stop + 4
    yield b"IEND", b"", struct.pack(">I", zlib.crc32(b"IEND"))


def _jpeg(data: bytes) -> bytes | None:
    kept, position = [data[:2]], 2
    # Pillow skips bytes between segments, and libjpeg does too.
    while (position := data.find(b"\xff", position)) >= 0:
        marker = data[position + 1]
        if marker in (0, 0xFF, JPEG_SOI):
            position += 1
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        segment = data[position : position + 2 + length]
        position += len(segment)
        begins, least = JPEG_KEPT.get(marker, (b"\xff\xff", 0))
        body = segment[4:]
        if marker not in (*JPEG_APP, JPEG_COMMENT) or (body.startswith(begins) and len(body) >= least):
            kept.append(segment)
        if marker == JPEG_SOS:
            return b"".join([*kept, data[position:]])
    return None


def _tiff(data: bytes) -> bytes:
    """Keep only the first image and some of its tags. All positions in the file stay as they are."""
    order = "<" if data[:2] == b"II" else ">"
    big = 43 in data[2:4]
    count_format, entry_format, pointer = (
        (order + "Q", order + "HHQ8s", "Q") if big else (order + "H", order + "HHI4s", "I")
    )
    (first,) = struct.unpack_from(order + pointer, data, 8 if big else 4)
    (count,) = struct.unpack_from(count_format, data, first)
    start, size = first + struct.calcsize(count_format), struct.calcsize(entry_format)
    kept = []
    for number in range(min(count, 1 << 16)):
        entry = data[start + number * size : start + (number + 1) * size]
        tag, kind, values, place = struct.unpack(entry_format, entry)
        length = TIFF_BYTES.get(kind, 1) * values
        inside = length <= len(place) or struct.unpack(order + pointer, place)[0] + length <= len(data)
        if tag in TIFF_KEPT and inside:
            kept.append(entry)
    directory = struct.pack(count_format, len(kept)) + b"".join(kept) + bytes(struct.calcsize(pointer))
    return data[:first] + directory + data[first + len(directory) :]


def _webp(data: bytes) -> bytes:
    chunks, position, flags = [], 12, 0
    while position + 8 <= len(data):
        kind, (length,) = data[position : position + 4], struct.unpack_from("<I", data, position + 4)
        stop = position + 8 + length
        chunk = data[position:stop] + b"\0" * (length & 1)
        complete = stop <= len(data)
        if kind in WEBP_PIXELS:
            chunks.append(bytearray(chunk))
        elif kind == b"EXIF" and complete:
            chunks.append(bytearray(chunk))
            flags |= WEBP_METADATA_FLAGS[kind]
        position = stop + (length & 1)
    for chunk in chunks:
        if chunk.startswith(b"VP8X"):
            chunk[8] = chunk[8] & ~sum(WEBP_METADATA_FLAGS.values()) | flags
    body = b"".join([b"WEBP", *chunks])
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _avif(data: bytes) -> bytes | None:
    """Rename the EXIF items in the header of the file, so that Pillow ignores them."""
    start = data.find(b"meta", 0, 1 << 16)
    if start < 4:
        return None
    stop = start - 4 + struct.unpack_from(">I", data, start - 4)[0]
    return data[:start] + data[start:stop].replace(b"Exif", b"skip") + data[stop:]


REMOVERS: dict[str, Callable[[bytes], bytes | None]] = {
    "PNG": _png, "JPEG": _jpeg, "MPO": _jpeg, "TIFF": _tiff, "WEBP": _webp, "AVIF": _avif,
}  # fmt: skip
