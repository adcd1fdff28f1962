import io
import re
import struct
import threading
import warnings
import zlib
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile

from featx.errors import ImageError
from featx.images.decoding.decoder import TRANSPOSITIONS, decode
from featx.images.decoding.formats import image_formats, image_suffixes
from featx.images.decoding.memory_budget import MAX_PIXELS
from featx.images.loading import load_file
from featx.images.pixels.reference_images import draw_reference_images
from featx.spec.extract_spec import ExtractSpec

SMOOTH = draw_reference_images()[0]
CORNERS = np.array([[(250, 10, 10), (10, 250, 10)], [(10, 10, 250), (240, 240, 20)]], dtype=np.uint8)
BLOCKS = Image.fromarray(CORNERS.repeat(16, axis=0).repeat(24, axis=1))


def encode(image, format_, **options):
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def decoded(data):
    return np.asarray(decode(data).image).astype(int)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, color, rows, *extra):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(extra)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


LOSSLESS = ("PNG", "TIFF", "BMP", "DIB", "PPM", "TGA", "PCX", "SGI", "QOI", "DDS", "JPEG2000")


@pytest.mark.parametrize("format_", LOSSLESS)
def test_lossless_formats_keep_every_pixel(format_):
    decoded_image = decode(encode(SMOOTH, format_))
    assert decoded_image.image.mode == "RGB"
    assert not decoded_image.exif_rotated
    np.testing.assert_array_equal(np.asarray(decoded_image.image), np.asarray(SMOOTH))


def test_lossless_webp_keeps_every_pixel():
    np.testing.assert_array_equal(decoded(encode(SMOOTH, "WEBP", lossless=True)), np.asarray(SMOOTH))


@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
        ("JPEG", {"quality": 95, "subsampling": "4:4:4", "progressive": True}),
        ("WEBP", {"quality": 95}),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}),
        ("GIF", {}),
    ],
)
def test_lossy_formats_change_pixels_only_slightly(format_, options):
    if Image.init() and format_ not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {format_}")
    error = np.abs(decoded(encode(BLOCKS, format_, **options)) - np.asarray(BLOCKS))
    assert error.mean() < 5


@pytest.mark.parametrize("format_", ["XBM", "MSP"])
def test_bitmap_formats_are_black_and_white(format_):
    bits = BLOCKS.convert("L").point(lambda value: 255 * (value > 100)).convert("1")
    np.testing.assert_array_equal(decoded(encode(bits, format_)), np.asarray(bits.convert("RGB")))


@pytest.mark.parametrize(("format_", "size"), [("ICO", (48, 32)), ("ICNS", (1024, 1024))])
def test_icons_are_decoded(format_, size):
    assert decode(encode(BLOCKS, format_, sizes=[(48, 32)])).image.size == size


def test_a_white_float_image_is_white():
    assert decoded(encode(Image.new("F", (4, 3), 1.0), "PPM")).min() == 255


def test_a_format_that_pillow_deprecates_causes_no_warning():
    header = b"Image type: Greyscale image\r\nImage size (x*y): 4*2\r\n"
    data = header.ljust(511, b"\0") + b"\x1a" + bytes(range(8))
    np.testing.assert_array_equal(decoded(data)[..., 0], [[4, 5, 6, 7], [0, 1, 2, 3]])


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_frame_of_an_animation_is_decoded(format_):
    frames = [Image.new("RGB", (16, 16), color) for color in ((200, 30, 60), (0, 0, 255), (0, 255, 0))]
    data = encode(frames[0], format_, save_all=True, append_images=frames[1:])
    assert np.abs(decoded(data) - (200, 30, 60)).max() <= 6


# The inverse rotation of the upright image is what a camera held that way would have stored.
AS_STORED = {**TRANSPOSITIONS, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("format_", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": "4:4:4"}),
        ("PNG", {}),
        ("TIFF", {}),
        ("WEBP", {"lossless": True}),
        ("AVIF", {"quality": 95, "subsampling": "4:4:4"}),
    ],
)
def test_every_exif_orientation_gives_the_same_upright_image(format_, options, orientation):
    stored = BLOCKS.transpose(AS_STORED[orientation]) if orientation > 1 else BLOCKS
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    decoded_image = decode(encode(stored, format_, exif=exif, **options))
    assert decoded_image.exif_rotated == (orientation > 1)
    assert decoded_image.image.size == BLOCKS.size
    assert np.abs(np.asarray(decoded_image.image).astype(int) - np.asarray(BLOCKS)).mean() < 3


def test_exif_after_the_pixels_of_a_png_is_used():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    data = encode(BLOCKS, "PNG")
    end = data.index(b"IEND") - 4
    late = data[:end] + chunk(b"eXIf", exif.tobytes()[6:]) + data[end:]
    decoded_image = decode(late)
    assert decoded_image.exif_rotated
    np.testing.assert_array_equal(np.asarray(decoded_image.image), np.asarray(BLOCKS.transpose(TRANSPOSITIONS[3])))


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0garbage",
        b"Exif\0\0",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0x\0\0\0\0\0\0\0",
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x63\0\0\0\0\0\0",
    ],
)
def test_damaged_exif_is_ignored(exif):
    decoded_image = decode(encode(BLOCKS, "JPEG", quality=95, exif=exif))
    assert not decoded_image.exif_rotated
    assert decoded_image.image.size == BLOCKS.size


def test_an_image_is_upright_even_if_other_exif_tags_are_damaged():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.XResolution] = 6, 72.0
    # The resolution is marked as text, which Pillow can read but not write again.
    damaged = exif.tobytes().replace(struct.pack(">HHI", 282, 5, 1), struct.pack(">HHI", 282, 2, 1))
    assert damaged != exif.tobytes()
    data = encode(BLOCKS, "JPEG", quality=95, exif=damaged)
    decoded_image = decode(data)
    assert decoded_image.exif_rotated
    assert decoded_image.image.size == BLOCKS.size[::-1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "^empty file$"),
        (b"This is text, not a picture\n", "^no image format that Pillow knows: starts with 'This is t…'$"),
        (b"\xff\xd8", r"^no image format that Pillow knows: starts with '\\xff\\xd8'$"),
        (b"%PDF-1.4\n%\xe2", "^no image format that Pillow knows"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "^no image format that Pillow knows"),
        (b"\0" * 5000, "^no image format that Pillow knows"),
        (b"\xff\xd8\xff", "^damaged or cut short: JPEG, its header is not complete$"),
        (b"\xff\xd8\xff\xe0", "^cut short: JPEG, its header ends too early$"),
        (b"GIF89a", "^cut short: GIF, its header ends too early$"),
        (b"RIFF\x10\0\0\0WEBPVP8 \x04\0\0\0\0\0\0\0", "^damaged or cut short: WEBP, could not create decoder object$"),
    ],
)
def test_bytes_that_are_not_an_image_are_refused_with_the_reason(data, message):
    with pytest.raises(ImageError, match=message):
        decode(data)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_jpeg_is_reported_as_cut_short(share, progressive):
    data = encode(draw_reference_images()[2], "JPEG", progressive=progressive)
    with pytest.raises(ImageError, match="cut short: JPEG"):
        decode(data[: max(5, int(len(data) * share))])


@pytest.mark.parametrize("format_", ["PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "PPM", "JPEG2000"])
def test_half_a_file_is_reported_as_cut_short(format_):
    data = encode(draw_reference_images()[2], format_)
    with pytest.raises(ImageError, match=f"cut short: {format_}"):
        decode(data[: len(data) // 2])


def test_a_decompression_bomb_is_refused_by_its_header():
    bomb = png(50_000, 50_000, 8, 2, bytes(1000))
    with pytest.raises(ImageError, match=r"^50000 × 50000 pixels, more than the 178956970 allowed \(--max-pixels\)$"):
        decode(bomb)


def test_a_decompression_bomb_in_a_later_header_is_refused():
    data = encode(BLOCKS, "GIF")
    frame = struct.pack("<c4H", b",", 0, 0, *BLOCKS.size)
    assert frame in data
    with pytest.raises(ImageError, match=r"^too large: GIF, Image size"):
        decode(data.replace(frame, struct.pack("<c4H", b",", 0, 0, 65535, 65535)))


def test_an_image_may_have_exactly_max_pixels():
    data = encode(BLOCKS, "PNG")
    assert decode(data, max_pixels=BLOCKS.width * BLOCKS.height).image.size == BLOCKS.size
    with pytest.raises(ImageError, match=f"more than the {BLOCKS.width * BLOCKS.height - 1} allowed"):
        decode(data, max_pixels=BLOCKS.width * BLOCKS.height - 1)


def test_max_pixels_replaces_pillows_own_limit(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(encode(BLOCKS, "PNG"), MAX_PIXELS).image.size == BLOCKS.size


def test_running_out_of_memory_is_reported(monkeypatch):
    def no_memory(self):
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", no_memory)
    with pytest.raises(ImageError, match=r"^not enough memory to decode this BMP$"):
        decode(encode(BLOCKS, "BMP"))


def test_a_format_that_this_pillow_cannot_open_is_named(monkeypatch):
    image_formats()
    factory, _ = Image.OPEN["BMP"]
    monkeypatch.setitem(Image.OPEN, "BMP", (factory, lambda prefix: "BMP support is not built in"))
    with pytest.raises(ImageError, match=r"^BMP support is not built in$"):
        decode(encode(BLOCKS, "BMP"))


def test_16_bit_color_keeps_its_high_bytes():
    rows = b"\0" + struct.pack(">6H", 0, 65535, 257 * 100, 257 * 7, 257 * 200, 257 * 254)
    np.testing.assert_array_equal(decoded(png(2, 1, 16, 2, rows)), [[(0, 255, 100), (7, 200, 254)]])


def test_16_bit_gray_is_scaled_not_clipped():
    rows = b"\0" + struct.pack(">4H", 0, 257, 32768, 65535)
    np.testing.assert_array_equal(decoded(png(4, 1, 16, 0, rows))[0, :, 0], [0, 1, 128, 255])


def test_1_bit_gray_is_black_and_white():
    np.testing.assert_array_equal(decoded(png(2, 1, 1, 0, b"\0\x40"))[0, :, 0], [0, 255])


@pytest.mark.parametrize(
    ("color", "rows", "transparent"),
    [
        (0, b"\0\x0a\xc8", struct.pack(">H", 10)),
        (2, b"\0\x0a\x0a\x0a\xc8\xc8\xc8", struct.pack(">3H", 10, 10, 10)),
    ],
)
def test_the_transparent_color_of_a_png_becomes_white(color, rows, transparent):
    pixels = decoded(png(2, 1, 8, color, rows, chunk(b"tRNS", transparent)))
    np.testing.assert_array_equal(pixels, [[(255, 255, 255), (200, 200, 200)]])


def test_transparent_colors_of_a_palette_become_white():
    palette = chunk(b"PLTE", bytes([200, 0, 0, 0, 100, 0])), chunk(b"tRNS", bytes([0, 255]))
    np.testing.assert_array_equal(decoded(png(2, 1, 8, 3, b"\0\0\1", *palette)), [[(255, 255, 255), (0, 100, 0)]])


@pytest.mark.parametrize("format_", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colors(format_):
    ink = Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK")
    assert np.abs(decoded(encode(ink, format_)) - (200, 30, 60)).max() <= 2


def decoded_bytes(data):
    return np.asarray(decode(data).image).tobytes()


def test_threads_and_processes_decode_the_same_pixels():
    files = [
        encode(image, format_) for image in draw_reference_images() for format_ in ("JPEG", "PNG", "WEBP", "GIF")
    ] * 3
    alone = [decoded_bytes(data) for data in files]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(decoded_bytes, files)) == alone
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes:
        assert list(processes.map(decoded_bytes, files[:4])) == alone[:4]


def file_with_a_warning():
    """Make a TIFF that causes a warning from Pillow: one of its tags points beyond the end."""
    data = bytearray(encode(BLOCKS, "TIFF", software="x" * 40))
    start = data.index(struct.pack("<HHI", 305, 2, 41))
    data[start + 8 : start + 12] = struct.pack("<I", len(data) + 1000)
    return bytes(data)


def test_warnings_from_pillow_are_not_shown_in_any_thread():
    data, filters = file_with_a_warning(), list(warnings.filters)
    with pytest.warns(UserWarning, match="Truncated|offset|larger"), Image.open(io.BytesIO(data)) as image:
        image.load()
    start = threading.Barrier(4)

    def work(_):
        start.wait()
        return [decode(data).image.size for _ in range(25)]

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == [[BLOCKS.size] * 25] * 4
    assert list(warnings.filters) == filters


def test_images_are_decoded_where_warnings_are_errors():
    data = file_with_a_warning()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(data).image.size == BLOCKS.size
        with pytest.raises(UserWarning):
            Image.open(io.BytesIO(data)).load()


SEEDS = [encode(BLOCKS, format_) for format_ in (*LOSSLESS, "JPEG", "GIF", "WEBP", "ICO")] + [file_with_a_warning()]


@st.composite
def damaged_files(draw):
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(1, 6))):
        # Most of the structure of a file is in its first bytes.
        position = draw(st.integers(0, 120) | st.integers(0, len(data) - 1)) % len(data)
        data[position] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(1, len(data)) | st.just(len(data)))])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | damaged_files())
@example(b"P6 0 5 255\n")
def test_any_bytes_give_an_image_or_an_image_error(data):
    try:
        decoded_image = decode(data, max_pixels=1_000_000)
    except ImageError as error:
        reason = str(error)
    else:
        reason = f"{decoded_image.image.mode} {min(decoded_image.image.size)}"
    assert re.fullmatch(r"empty file|RGB [1-9]\d*|.*(pixels|short|memory|knows|large|range).*", reason)


def test_only_raster_formats_have_suffixes():
    wanted = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".ppm", ".mpo", ".jp2"}
    assert wanted <= image_suffixes()
    assert not image_suffixes() & {".pdf", ".eps", ".ps", ".mpg", ".mpeg", ".h5", ".hdf", ".wmf", ".emf", ".flc"}


def test_formats_without_a_signature_are_tried_last():
    formats = image_formats()
    unsigned = [Image.OPEN[name][1] is None for name in formats]
    assert unsigned == sorted(unsigned)
    assert "EPS" not in formats


def test_only_jpeg_is_decoded_at_a_smaller_scale():
    image = SMOOTH.resize((400, 304))
    assert decode(encode(image, "JPEG"), side=64).image.size == (100, 76)
    assert decode(encode(image, "JPEG"), side=77).image.size == (200, 152)
    assert decode(encode(image, "JPEG"), side=310).image.size == (400, 304)
    assert decode(encode(image, "PNG"), side=64).image.size == (400, 304)


def test_an_image_decoded_at_a_smaller_scale_is_upright():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    decoded_image = decode(encode(SMOOTH.resize((400, 304)), "JPEG", exif=exif), side=64)
    assert (decoded_image.image.size, decoded_image.exif_rotated) == ((76, 100), True)


def test_scaled_decoding_gives_similar_pixels(tmp_path):
    SMOOTH.resize((800, 640)).save(tmp_path / "large.jpg", quality=95)
    full, scaled = (
        load_file(tmp_path / "large.jpg", ExtractSpec(size=64, decode=decode)).pixels for decode in ("full", "scaled")
    )
    difference = np.abs(full.astype(int) - scaled.astype(int))
    assert difference.max() > 0
    assert difference.mean() < 4
