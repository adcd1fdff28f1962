"""What surrounds the pixels of a file never decides whether they are decoded."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from PIL import ExifTags, Image
from tiff_files import damage_tag, tiff

from featx.errors import ImageError
from featx.images.decoding.decoder import decode
from featx.images.decoding.memory_budget import count_scans
from featx.images.loading import load_file
from featx.spec.extract_spec import ExtractSpec

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(12, axis=0).repeat(12, axis=1)
IMAGE = Image.fromarray(PIXELS)
NOISE = RANDOM.bytes(1 << 20)
FAR = struct.pack("<I", 0xFFFFFFF0)


def encode(format_, image=IMAGE, **options):
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


PNG, JPEG = encode("PNG"), encode("JPEG", quality=95, subsampling="4:4:4")
WEBP, WEBP_EXIF = encode("WEBP", lossless=True), encode("WEBP", lossless=True, exif=b"Exif\0\0" + b"x" * 1000)


def chunk(kind, body, checksum=None):
    checksum = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(*chunks, late=False):
    at = PNG.rindex(b"IEND") - 4 if late else 33
    return PNG[:at] + b"".join(chunks) + PNG[at:]


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg(*segments):
    return JPEG[:2] + b"".join(segments) + JPEG[2:]


LARGE = zlib.compress(bytes(3 << 20))
CHUNKS = {
    "compressed text of 3 MB": [chunk(b"zTXt", b"k\0\0" + LARGE)],
    "international text of 3 MB": [chunk(b"iTXt", b"k\0\1\0\0\0" + LARGE)],
    "text of 70 MB": [chunk(b"tEXt", b"key\0" + bytes(1 << 20))] * 70,
    "text with a wrong checksum": [chunk(b"tEXt", b"k\0v", 1)],
    "text of an unknown method": [chunk(b"zTXt", b"k\0\5garbage")],
    "text that is not UTF-8": [chunk(b"iTXt", b"k\0\0\0\xff\0\xff\0\xff")],
    "profile with a wrong checksum": [chunk(b"iCCP", b"k\0\0" + LARGE, 1)],
    "profile of 3 MB": [chunk(b"iCCP", b"k\0\0" + LARGE)],
    "profile of an unknown method": [chunk(b"iCCP", b"k\0\7garbage")],
    "damaged profile": [chunk(b"iCCP", b"k\0\0garbage")],
    "empty profile": [chunk(b"iCCP", b"")],
    "short resolution": [chunk(b"pHYs", b"a")],
    "short gamma": [chunk(b"gAMA", b"a")],
    "short colors": [chunk(b"cHRM", b"abc")],
    "no rendering intent": [chunk(b"sRGB", b"")],
    "short transparent color": [chunk(b"tRNS", b"a")],
    "damaged EXIF": [chunk(b"eXIf", b"abc")],
    "damaged animation": [chunk(b"acTL", b"ab")],
    "damaged frame": [chunk(b"fcTL", b"ab")],
    "private chunk": [chunk(b"prVt", NOISE)],
}
SEGMENTS = {
    "damaged EXIF": [segment(0xE1, b"Exif\0\0" + NOISE[:60000])],
    "damaged XMP": [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + NOISE[:1000])],
    "profile without a number": [segment(0xE2, b"ICC_PROFILE\0")],
    "profile with a wrong number": [segment(0xE2, b"ICC_PROFILE\0\5\2abc")],
    "short JFIF": [segment(0xE0, b"JFIF")],
    "short Adobe": [segment(0xEE, b"Adobe")],
    "short Photoshop": [segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed")],
    "damaged list of images": [segment(0xE2, b"MPF\0" + NOISE[:100])],
    "list of an image beyond the end": [
        segment(0xE2, b"MPF\0II*\0\x08\0\0\0\x01\0\x01\xb0\x04\0\x01\0\0\0\xff\xff\xff\xff\0\0\0\0")
    ],
    "3,000 segments": [segment(0xE5, NOISE[:6000])] * 3000,
    "100 thumbnails": [segment(0xE1, b"Exif\0\0" + JPEG)] * 100,
    "comment with markers": [segment(0xFE, b"\xff\xda" * 30000)],
    "empty comment": [segment(0xFE, b"")],
}
TAGS = {
    "description": (270, (2, 5000, FAR)),
    "private": (50000, (4, 1000, FAR)),
    "huge private": (50001, (1, 0xFFFFFFFF, FAR)),
    "unknown type": (50002, (99, 1, FAR)),
    "EXIF": (34665, (4, 1, FAR)),
    "GPS": (34853, (4, 1, FAR)),
    "XMP": (700, (1, 5000, FAR)),
    "profile": (34675, (7, 5000, FAR)),
    "Photoshop": (34377, (1, 5000, FAR)),
    "resolution": (282, (5, 1, FAR)),
    "Windows Media": (48129, (5, 100, FAR)),
    "date": (306, (2, 4, b"\xff\xfe\xfd\0")),
}


def files() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield the name of each file, and a function that returns its bytes: the same pixels, up to the loss of JPEG."""
    for name, chunks in CHUNKS.items():
        yield f"png: {name}", partial(png, *chunks)
        yield f"png: {name} behind the pixels", partial(png, *chunks, late=True)
    yield "png: cut short in a text behind the pixels", lambda: PNG[: PNG.rindex(b"IEND") - 4] + b"\0\0\x99\0tEXtabc"
    yield "png: trailing data", lambda: PNG + NOISE
    for name, segments in SEGMENTS.items():
        yield f"jpeg: {name}", partial(jpeg, *segments)
    yield "jpeg: trailing data", lambda: JPEG + NOISE * 19
    yield "jpeg: another image and a video behind it", lambda: JPEG + JPEG + b"\0\0\0\x18ftypmp42" + NOISE
    for name, (tag, entry) in TAGS.items():
        yield f"tiff: {name}", partial(tiff, PIXELS, photometric=2, tags={tag: entry})
    yield (
        "tiff: damaged description",
        lambda: damage_tag(tiff(PIXELS, photometric=2, tags={270: (2, 8, b"12345678")}), 270),
    )
    yield "tiff: trailing data", lambda: tiff(PIXELS, photometric=2) + NOISE
    yield "tiff: a second image beyond the end", lambda: encode("TIFF").replace(bytes(4), FAR, 1)
    yield "webp: damaged EXIF", lambda: encode("WEBP", lossless=True, exif=b"Exif\0\0garbage")
    yield "webp: damaged profile", lambda: encode("WEBP", lossless=True, icc_profile=b"garbage")
    yield "webp: EXIF that is cut short", lambda: WEBP_EXIF[:-500]
    yield "webp: wrong size", lambda: WEBP[:4] + struct.pack("<I", len(WEBP) + 1000) + WEBP[8:]
    yield "webp: trailing data", lambda: WEBP + NOISE
    yield "gif: trailing data", lambda: encode("GIF") + NOISE
    yield "gif: no end", lambda: encode("GIF")[:-1]
    yield "bmp: trailing data", lambda: encode("BMP") + NOISE
    yield "jpeg 2000: trailing data", lambda: encode("JPEG2000") + NOISE


FILES = dict(files())


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_decoded_whatever_surrounds_them(name):
    decoded = decode(FILES[name]())
    pixels = np.asarray(decoded.image).astype(int)
    assert pixels.shape == PIXELS.shape
    exact = not name.startswith(("jpeg:", "gif:"))
    assert np.abs(pixels - PIXELS).mean() <= (0 if exact else 6)
    assert not decoded.exif_rotated


def test_avif_with_damaged_exif_is_decoded():
    if Image.init() and "AVIF" not in Image.SAVE:
        pytest.skip("this Pillow writes no AVIF")
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = "x" * 200
    data = encode("AVIF", exif=exif, quality=95, subsampling="4:4:4")
    at = data.rindex(b"x" * 200)
    damaged = data[: at - 40] + b"\xff" * 240 + data[at + 200 :]
    assert np.abs(np.asarray(decode(damaged).image).astype(int) - PIXELS).mean() < 5


@pytest.mark.parametrize(
    ("format_", "damage"),
    [
        ("PNG", lambda data: data[:33] + chunk(b"iCCP", b"") + data[33:]),
        ("JPEG", lambda data: data[:2] + segment(0xE2, b"ICC_PROFILE\0") + data[2:]),
        ("WEBP", lambda data: data + b"XMP \xff\xff\0\0abc"),
        ("TIFF", lambda data: damage_tag(data, 270)),
    ],
)
def test_the_orientation_is_used_even_if_other_metadata_is_damaged(format_, damage):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    options = {"PNG": {}, "JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "TIFF": {"description": "x" * 40}}
    data = damage(encode(format_, exif=exif, **options[format_]))
    decoded = decode(data)
    assert decoded.exif_rotated
    assert decoded.image.size == PIXELS.shape[:2]


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize("name", ["png: empty profile", "jpeg: short JFIF", "webp: damaged EXIF", "tiff: description"])
def test_damaged_pixels_are_still_refused(name, share):
    data = FILES[name]()
    with pytest.raises(ImageError, match="cut short: "):
        decode(data[: int(len(data) * share)])


def test_a_photograph_with_a_raw_image_behind_it_is_decoded(tmp_path):
    """As `trailing` of people's files: in noise, the bytes of a marker occur by chance."""
    path = tmp_path / "1.jpg"
    IMAGE.resize((4056, 3040)).save(path, quality=90)
    data = path.read_bytes()
    noise = np.random.default_rng(0).bytes(19 << 20)
    path.write_bytes(data + noise)
    assert (data + noise).count(b"\xff\xda") > 200
    assert count_scans(data + noise) == count_scans(data) == 1
    loaded = load_file(path, ExtractSpec(size=32))
    assert loaded.reason == ""


def test_scans_are_counted_up_to_the_end_of_the_image():
    progressive = encode("JPEG", progressive=True)
    scans = progressive.count(b"\xff\xda")
    last = progressive[progressive.rindex(b"\xff\xda") : -2]
    many = progressive[:-2] + last * 100 + progressive[-2:]
    assert count_scans(many) == scans + 100
    assert count_scans(many + many) == scans + 100
    assert count_scans(many[:2] + segment(0xE1, b"\xff\xda" * 1000 + b"\xff\xd9") + many[2:]) == scans + 100
