"""Make a corpus of broken images, and extract one: ``python tests/broken_images.py FOLDER``."""

import io
import json
import random
import re
import resource
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from featx.images.decoding.formats import image_formats

SIDE = 40
CUTS = 10
FLIPS = 6
MODES = {"XBM": "1", "MSP": "1", "BLP": "P", "SPIDER": "F"}
"""Modes of the formats that cannot store RGB."""
LIBTIFF_LINE = re.compile(
    r"(_?TIFF|ZIP|LZW|LZMA|ZSTD|JPEG|JBIG|WebP|LERC|Fax[34]|PackBits|PixarLog|Log(L16|Luv)|Thunder|NeXT|tempfile\.tif)"
    r"\w*: .+"
)
"""What libtiff itself writes to standard error, usually one line per damaged file."""
COMPRESSIONS = ("tiff_lzw", "tiff_deflate", "jpeg", "packbits", "group4")


def corpus() -> Iterator[tuple[str, bytes]]:
    """Yield the name and bytes of each file, the same in every call."""
    good = dict(intact())
    chance = random.Random(0)
    for name, data in good.items():
        yield name, data
        stem, _, suffix = name.rpartition(".")
        for cut in range(CUTS):
            yield f"{stem}-cut{cut}.{suffix}", data[: cut * len(data) // CUTS]
        for flip in range(FLIPS):
            yield f"{stem}-flip{flip}.{suffix}", _flipped(data, chance, 1 << flip, flip % 2)
        yield f"{stem}-wrong.{'png' if suffix != 'png' else 'jpg'}", data
    yield from _special(good)


def intact() -> Iterator[tuple[str, bytes]]:
    """Yield one intact file of each format that this Pillow writes, and of some that it only reads."""
    pixels = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    image = Image.fromarray(pixels)
    for format_ in sorted(set(image_formats()) & Image.SAVE.keys()):
        yield f"{format_.lower()}.{format_.lower()}", _saved(image.convert(MODES.get(format_, "RGB")), format_)
    for compression in COMPRESSIONS:
        mode = "1" if compression == "group4" else "RGB"
        yield f"{compression}.tif", _saved(image.convert(mode), "TIFF", compression=compression)
    yield "progressive.jpg", _saved(image, "JPEG", progressive=True)
    yield "interlaced.gif", _saved(image.convert("P"), "GIF", interlace=1)
    yield "alpha.png", _saved(image.convert("RGBA"), "PNG")
    yield "gray16.png", _saved(Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257), "PNG")
    yield "cmyk.jpg", _saved(image.convert("CMYK"), "JPEG")
    yield "plain.ppm", b"P3 4 4 255 " + b"1 2 3 " * 16
    yield "float.pfm", b"Pf\n4 4\n-1.0\n" + np.linspace(0, 1, 16, dtype="f4").tobytes()
    yield "pixmap.xpm", _xpm()
    yield "run.qoi", b"qoif" + struct.pack(">IIBB", 40, 40, 3, 0) + b"\xfd" * 26 + bytes(7) + b"\1"
    fits = [b"SIMPLE  = T", b"BITPIX  = 8", b"NAXIS   = 2", b"NAXIS1  = 40", b"NAXIS2  = 40", b"END"]
    yield "plain.fits", b"".join(line.ljust(80) for line in fits).ljust(2880) + bytes(2880)
    planes = np.moveaxis(pixels, 2, 0).tobytes()
    yield "planes.psd", struct.pack(">4sH6xHIIHH4x4x4xH", b"8BPS", 1, 3, SIDE, SIDE, 8, 3, 0) + planes
    yield "thumb.xv", b"P7 332\n#END_OF_COMMENTS\n8 8 255\n" + bytes(range(64))
    yield "brush.gbr", struct.pack(">5I4sI", 29, 2, 8, 8, 1, b"GIMP", 1) + b"\0" + bytes(64)
    yield "pages.dcx", struct.pack("<III", 987654321, 12, 0) + _saved(image, "PCX")
    yield "raster.sun", struct.pack(">8I", 0x59A66A95, 8, 8, 8, 64, 1, 0, 0) + bytes(64)


def _saved(image: Image.Image, format_: str, **options: object) -> bytes:
    data = io.BytesIO()
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        image.save(data, format_, **options)
    return data.getvalue()


def _xpm() -> bytes:
    rows = ",\n".join(['"' + "ab" * 4 + '"'] * 8)
    return f'/* XPM */\nstatic char *x[] = {{\n"8 8 2 1",\n"a c #ff0000",\n"b c #00ff00",\n{rows}\n}};\n'.encode()


def _flipped(data: bytes, chance: random.Random, bits: int, in_header: int) -> bytes:
    """Flip some bits, in the first bytes or anywhere."""
    changed = bytearray(data)
    for _ in range(bits):
        at = chance.randrange(min(len(data), 100) if in_header else len(data))
        changed[at] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(width: int, height: int, pixels: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(pixels)) + _chunk(b"IEND", b"")
    )


def _special(good: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
    image = Image.new("RGB", (SIDE, SIDE), (200, 30, 30))
    for format_ in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        yield f"zero.{format_.lower()}", b""
        for width, height in ((1, 1), (1, 30_000), (30_000, 1)):
            if format_ != "WEBP" or max(width, height) < 16_384:
                yield f"{width}x{height}.{format_.lower()}", _saved(image.resize((width, height)), format_)
    for side in (1 << 16, 1 << 20, (1 << 31) - 1):
        yield f"huge{side}.png", _png(side, side, bytes(100))
        yield f"huge{side}.qoi", b"qoif" + struct.pack(">IIBB", side, side, 3, 0) + b"\xfd" * 100
        yield f"huge{side}.ppm", f"P6 {side} {side} 255 ".encode()
        yield f"huge{side}.bmp", good["bmp.bmp"][:18] + struct.pack("<ii", side, side) + good["bmp.bmp"][26:]
    yield "claims.png", _png(13_000, 13_000, bytes(100))
    yield "claims.jp2", _patched_jp2(good["jpeg2000.jpeg2000"], 12_000)
    for format_, options in (("GIF", {}), ("PNG", {}), ("TIFF", {}), ("WEBP", {}), ("MPO", {}), ("AVIF", {})):
        if format_ in Image.SAVE_ALL:
            frames = [image.rotate(turn) for turn in range(30)]
            data = io.BytesIO()
            image.save(data, format_, save_all=True, append_images=frames, **options)
            yield f"frames.{format_.lower()}", data.getvalue()
            yield f"frames-cut.{format_.lower()}", data.getvalue()[: len(data.getvalue()) // 2]
    icon = good["png.png"]
    yield "nested.ico", struct.pack("<HHHBBBBHHII", 0, 1, 1, 8, 8, 0, 0, 1, 32, len(icon), 22) + icon
    yield (
        "nested-bomb.ico",
        struct.pack("<HHHBBBBHHII", 0, 1, 1, 8, 8, 0, 0, 1, 32, 100, 22) + _png(60_000, 60_000, b""),
    )
    last = good["progressive.jpg"]
    yield "scans.jpg", last[:-2] + last[last.rindex(b"\xff\xda") : -2] * 500 + last[-2:]
    text = _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(20 << 20), 9))
    yield "text-bomb.png", icon[:33] + text + icon[33:]
    yield "profile-bomb.png", icon[:33] + _chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(20 << 20), 9)) + icon[33:]
    yield from _metadata(image)


def _patched_jp2(data: bytes, side: int) -> bytes:
    """Change the size in the header of a JPEG 2000."""
    return data.replace(struct.pack(">II", SIDE, SIDE), struct.pack(">II", side, side))


def _metadata(image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """Yield images with damaged EXIF and damaged color profiles."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    loop = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x08\0\0\0\x08"
    for format_ in ("JPEG", "PNG", "WEBP", "TIFF"):
        for number, bad in enumerate((b"", b"x", profile[:100], profile[:-50], bytes(3000), b"\xff" * 500)):
            yield f"profile{number}.{format_.lower()}", _saved(image, format_, icc_profile=bad)
        if format_ == "TIFF":
            continue
        bad_exifs = (
            exif,
            exif[:-9],
            loop,
            b"Exif\0\0",
            b"Exif\0\0" + b"\xff" * 100,
            exif.replace(b"\0\x01\0\x06", b"\xff" * 4),
        )
        for number, bad in enumerate(bad_exifs):
            yield f"exif{number}.{format_.lower()}", _saved(image, format_, exif=bad)


def peak_mb() -> float:
    """Return the peak memory of this process; on Linux, getrusage would include that of its parent before the start."""
    if (status := Path("/proc/self/status")).exists():
        return int(re.findall(r"VmHWM:\s+(\d+)", status.read_text())[0]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def run(folder: Path) -> dict[str, object]:
    """Extract every file as a command would; return counts, the seconds of the slowest file, and the peak of memory."""
    from featx.backbones.loading import load_backbone
    from featx.engines.selection import make_engine
    from featx.engines.streaming import feature_parts
    from featx.images.loading import load_image
    from featx.images.sources.any_source import list_images
    from featx.spec.extract_spec import ExtractSpec

    backbone = load_backbone("oxford")
    spec = ExtractSpec(size=32, blocks=(1,)).with_backbone(backbone.name, backbone.digest, backbone.preprocessing)
    listing = list_images(sorted(path.name for path in folder.iterdir()), folder)
    slowest = (0.0, "")
    results = {}
    for row, path in enumerate(listing.paths):
        began = time.perf_counter()
        loaded = load_image(listing, row, spec)
        slowest = max(slowest, (time.perf_counter() - began, path))
        results[path] = loaded.reason
    before = peak_mb()
    engine = make_engine(backbone, spec)
    parts = list(feature_parts(engine, listing, range(len(listing)), workers=2))
    return {
        "files": len(listing),
        "features": sum(len(part.paths) for part in parts),
        "failures": sum(len(part.failures) for part in parts),
        "silent": sorted(path for part in parts for path, reason in part.failures if not reason),
        "changed": sorted(path for part in parts for path, reason in part.failures if results[path] != reason),
        "slowest": slowest,
        "decoding_mb": before,
        "peak_mb": peak_mb(),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(run(Path(sys.argv[1]))))
