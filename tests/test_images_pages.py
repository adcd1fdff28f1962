"""Files with several pages or frames: the first one is taken, and that is counted."""

import io
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiff_files import longs, tiff

from featx.cli import main
from featx.extraction import extract
from featx.images import PixelRemark, decode
from featx.spec import ExtractSpec

pytestmark = pytest.mark.core
COLORS = ("red", "lime", "blue")


def pages(format="TIFF", count=3, **options):
    """Write pages of different colors and sizes."""
    first, *others = (Image.new("RGB", (32, 32), color) for color in COLORS[:count])
    data = io.BytesIO()
    first.save(data, format, save_all=True, append_images=others, **options)
    return data.getvalue()


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"big_tiff": True}, {"count": 2}],
    ids=str,
)
def test_the_first_page_of_a_tiff_is_decoded_and_the_others_are_reported(options):
    decoded = decode(pages(**options))
    assert decoded.image.getpixel((0, 0)) == (255, 0, 0)
    assert decoded.remarks == PixelRemark.PAGES


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP"])
def test_the_first_frame_of_an_animation_is_decoded_and_the_others_are_reported(format):
    decoded = decode(pages(format))
    assert np.abs(np.subtract(decoded.image.getpixel((0, 0)), (255, 0, 0))).max() <= 3
    assert decoded.remarks == PixelRemark.PAGES


@pytest.mark.parametrize("format", ["TIFF", "GIF", "PNG", "WEBP", "JPEG", "BMP"])
def test_a_file_with_one_page_has_no_remark(format):
    data = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(data, format)
    assert decode(data.getvalue()).remarks == 0


def chain(order, *pages_of_tags):
    """Join TIFF files of one page to one of several pages. Each has other tags."""
    data, last = bytearray(), None
    for tags in pages_of_tags:
        one = tiff(
            np.zeros((8, 8), np.uint8), order, tags={tag: longs(value, order=order) for tag, value in tags.items()}
        )
        data, last = _append(data, last, one, order)
    return bytes(data)


def _append(data, last, one, order):
    byteorder = "little" if order == "<" else "big"
    shift = len(data)
    one = bytearray(one)
    place = int.from_bytes(one[4:8], byteorder)
    count = int.from_bytes(one[place : place + 2], byteorder)
    for at in range(place + 2, place + 2 + 12 * count, 12):
        tag = int.from_bytes(one[at : at + 2], byteorder)
        if tag == 273:
            one[at + 8 : at + 12] = (int.from_bytes(one[at + 8 : at + 12], byteorder) + shift).to_bytes(4, byteorder)
    data += one
    if last is not None:
        data[last : last + 4] = (shift + place).to_bytes(4, byteorder)
    return data, shift + place + 2 + 12 * count


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("tags", "several"),
    [
        ([{}, {254: 1}], False),
        ([{}, {254: 1}, {254: 5}, {254: 4}], False),
        ([{}, {255: 2}], False),
        ([{}, {254: 1}, {254: 2}], True),
        ([{254: 2}, {254: 2}], True),
        ([{}, {}], True),
        ([{}], False),
    ],
)
def test_smaller_versions_and_masks_in_a_tiff_are_no_pages(order, tags, several):
    data = chain(order, *tags)
    assert Image.open(io.BytesIO(data)).n_frames == len(tags)
    assert decode(data).remarks == (PixelRemark.PAGES if several else 0)


def test_damage_behind_the_first_page_does_not_matter():
    data = pages()
    assert decode(data[: len(data) // 2]).image.getpixel((0, 0)) == (255, 0, 0)
    loop = bytearray(chain("<", {}, {254: 1}))
    place = int.from_bytes(loop[4:8], "little")
    assert decode(bytes(loop)).remarks == 0
    loop[loop.rfind(b"\0\0\0\0") :] = place.to_bytes(4, "little")
    assert decode(bytes(loop)).image.size == (8, 8)


def test_the_summary_counts_files_with_several_pages(tmp_path):
    folder = tmp_path / "scans" / "a"
    folder.mkdir(parents=True)
    (folder / "1.tif").write_bytes(pages())
    (folder / "2.gif").write_bytes(pages("GIF"))
    Image.new("RGB", (32, 32), "red").save(folder / "3.png")
    report = extract(folder.parent, tmp_path / "a.h5", ExtractSpec(size=32, blocks=(1,)))
    assert report.remarks == {"pages": 2}
    result = CliRunner().invoke(main, ["info", str(tmp_path / "a.h5"), "--json"])
    assert json.loads(result.output)["remarks"] == {"pages": 2}
    arguments = ["extract", str(folder.parent), "-o", str(tmp_path / "a.h5"), "--size", "32", "--blocks", "1"]
    output = CliRunner().invoke(main, arguments).output
    assert "2 images have several pages or frames, of which only the first was used; to use the others, save" in output
