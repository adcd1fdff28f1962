"""Limits on what decoding one image may cost, which are checked from its header."""

import dataclasses
import io
import logging
import struct
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from featx.errors import ImageError
from featx.images.decoding.decoder import decode
from featx.images.decoding.memory_budget import PixelBudget, check_file_size
from featx.images.loading import load_file, load_image
from featx.images.sources.any_source import list_images
from featx.spec.extract_spec import ONE_VIEW, ExtractSpec

SPEC = ExtractSpec(size=32)


def encode(image: Image.Image, format_: str, **options: object) -> bytes:
    data = io.BytesIO()
    image.save(data, format_, **options)
    return data.getvalue()


def many_scans(scans: int) -> bytes:
    """Make a progressive JPEG that repeats its last scan."""
    data = encode(Image.new("RGB", (64, 64)), "JPEG", progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]


PLAIN = Image.new("RGB", (64, 64))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode(PLAIN, "PNG"), r"64 × 64 pixels, more than the 4095 allowed \(--max-pixels\)"),
        (
            b"qoif" + struct.pack(">IIBB", 64, 64, 3, 0) + bytes(100),
            r"64 × 64 pixels, each as costly as 16 \(this kind of QOI is decoded slowly\), more than",
        ),
        (b"P3 64 64 255 0", r"each as costly as 16 \(this kind of PPM is decoded slowly\)"),
        (encode(PLAIN, "DDS"), r"each as costly as 16 \(this kind of DDS is decoded slowly\)"),
        (encode(PLAIN, "JPEG2000"), r"each as costly as 8 \(JPEG2000 takes much memory\)"),
        (encode(PLAIN.convert("F"), "TIFF"), r"each as costly as 4 \(of mode F\)"),
        (many_scans(33), r"each as costly as 3 \(in 33 scans\)"),
    ],
)
def test_images_that_cost_too_much_are_refused_by_their_header(data: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode(data, max_pixels=4095)
    cost = 4096 * int(message.partition("as costly as ")[2].partition(" ")[0] or 1)
    with pytest.raises(ImageError, match="allowed"):
        decode(data, max_pixels=cost - 1)


def test_images_that_cost_exactly_the_limit_are_decoded() -> None:
    assert decode(encode(PLAIN, "JPEG2000"), max_pixels=8 * 4096).image.size == (64, 64)
    assert decode(many_scans(33), max_pixels=3 * 4096).image.size == (64, 64)
    assert decode(many_scans(16), max_pixels=4096).image.size == (64, 64)


@pytest.mark.parametrize(
    ("size", "changes", "canvas"),
    [
        ((1, 2_000_000), {"size": 224}, 448_000_000),
        ((2_000_000, 1), {"size": 224}, 448_000_000),
        ((10, 14_000), {"resize": "pad", "n_views": 2, "augment": "rotate=30"}, 196_000_000),
    ],
)
def test_images_that_need_a_large_canvas_are_refused_by_their_header(tmp_path, size, changes, canvas) -> None:
    Image.new("L", size).save(tmp_path / "thin.png")
    spec = dataclasses.replace(SPEC, **changes)
    reason = load_file(tmp_path / "thin.png", spec).reason
    expected = f"{size[0]} × {size[1]} pixels, resized on a canvas of {canvas}, more than the 178956970 allowed"
    assert reason == f"{expected} (--max-pixels)"
    # Without augmented copies, no square canvas is needed.
    assert not load_file(tmp_path / "thin.png", dataclasses.replace(spec, size=32, **ONE_VIEW)).reason
    # A small limit is about the pixels of the image, not of the canvas.
    Image.new("L", (5, 800)).save(tmp_path / "small.png")
    assert not load_file(tmp_path / "small.png", spec, max_pixels=4000).reason


def test_a_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(1 << 40)
    (tmp_path / "manifest.csv").write_text("path\nsparse.png")
    size = "1,099,511,627,776 bytes, more than the 1,431,655,760"
    expected = f"{size} that a file with the allowed pixels can have (--max-pixels)"
    sources = tmp_path, tmp_path / "sparse.png", tmp_path / "manifest.csv", [str(tmp_path / "sparse.png")]
    for source in sources:
        assert load_image(list_images(source), 0, SPEC).reason == expected
    assert load_image(list_images(["sparse.png"] * 2, tmp_path).drop_duplicates(), 0, SPEC).reason == expected


def test_a_large_member_of_a_shard_is_refused_before_it_is_read(tmp_path: Path) -> None:
    header = tarfile.TarInfo("a/1.png")
    header.size = 1 << 40
    with (tmp_path / "shard.tar").open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate((1 << 40) + 4096)
    loaded = load_image(list_images(tmp_path / "shard.tar"), 0, SPEC)
    assert loaded.reason.startswith("1,099,511,627,776 bytes, more than the 1,431,655,760")


def test_a_file_may_have_exactly_the_limit_of_bytes() -> None:
    check_file_size(800, 100)
    with pytest.raises(ImageError, match=r"^801 bytes, more than the 800 that a file with the allowed pixels can have"):
        check_file_size(801, 100)


def test_a_large_image_waits_until_the_budget_is_free_and_a_small_one_does_not() -> None:
    budget, order, entered = PixelBudget(100), list[str](), threading.Event()

    def large() -> None:
        with budget.acquire(1000):
            order.append("large")
            entered.set()

    with budget.acquire(60):
        thread = threading.Thread(target=large)
        thread.start()
        with budget.acquire(40):
            assert not entered.wait(0.05)
            order.append("small")
    thread.join(10)
    assert order == ["small", "large"]


def damaged_tiff(compression: str) -> bytes:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8))
    data = bytearray(encode(image, "TIFF", compression=compression))
    data[200 : len(data) - 400 : 97] = bytes(len(data[200 : len(data) - 400 : 97]))
    return bytes(data)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate"])
def test_a_damaged_tiff_gives_a_reason(compression: str) -> None:
    with pytest.raises(ImageError, match=r"^damaged or cut short: TIFF, decoder error -2$"):
        decode(damaged_tiff(compression))


def test_messages_logged_by_pillow_are_in_the_reason_only(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encode(Image.new("RGB", (8, 8)), "TIFF"))
    entry = data.index(struct.pack("<HHI", 277, 3, 1))
    struct.pack_into("<H", data, entry + 8, 24576)
    logger = logging.getLogger()
    # Remove the handlers that pytest adds, as in a program that sets none.
    handlers, logger.handlers = logger.handlers, []
    try:
        with pytest.raises(ImageError, match=r"^damaged.*: TIFF, .*; More samples per pixel than .*: 24576$"):
            decode(bytes(data))
    finally:
        logger.handlers = handlers
    assert capfd.readouterr() == ("", "")
