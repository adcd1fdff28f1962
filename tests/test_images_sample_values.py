"""Pixels are what the file says about its values: bits, sign, floats, white or black zero, and transparency."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from tiff_files import shorts, tiff

from featx.errors import ImageError
from featx.images.decoding.decoder import decode, encode_upright, load_upright
from featx.images.pixels.sample_values import PixelRemark
from featx.spec.value_range import ValueRange

RAMP = np.linspace(0, 1, 48).reshape(6, 8)
GRAY = np.rint(RAMP * 255).astype(int)
"""The ramp in 8 bits."""
TYPES = {
    "uint8": RAMP * 255, "int8": RAMP * 255 - 128,
    "uint16": RAMP * 65535, "int16": RAMP * 65535 - 32768,
    "uint32": RAMP * (2**32 - 1), "int32": RAMP * (2**32 - 1) - 2**31,
    "float16": RAMP, "float32": RAMP, "float64": RAMP,
}  # fmt: skip
"""The ramp over the whole range of each type."""


def ramp(dtype):
    values = TYPES[dtype]
    return (np.rint(values) if np.dtype(dtype).kind in "iu" else values).astype(dtype)


def gray(data, value_range="auto"):
    """Decode a gray image: its values, int (height, width)."""
    pixels = np.asarray(decode(data, value_range=ValueRange.parse(value_range)).image).astype(int)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def encode(image, format_, **options):
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png16(array):
    """Write uint16 (height, width, bands) as a PNG; Pillow writes no colors of 16 bits."""
    height, width, bands = array.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[bands], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
@pytest.mark.parametrize("deflate", [False, True], ids=["raw", "deflate"])
@pytest.mark.parametrize("photometric", [1, 0], ids=["black-is-zero", "white-is-zero"])
def test_a_tiff_is_decoded_by_its_bits_sample_format_and_photometric_interpretation(dtype, order, deflate, photometric):
    data = tiff(ramp(dtype), order, photometric, deflate=deflate)
    expected = GRAY if photometric else 255 - GRAY
    assert np.abs(gray(data, "dtype") - expected).max() <= (0 if dtype != "float16" else 1)


@pytest.mark.parametrize("value", [0, 255])
def test_white_is_zero_is_white_in_8_and_16_bits(value):
    """As `depth/white-is-zero-*.tif` of people's files."""
    eight = encode(Image.fromarray(np.full((8, 8), 255, np.uint8)), "TIFF", tiffinfo={262: 0})
    sixteen = encode(Image.fromarray(np.zeros((8, 8), np.uint16)), "TIFF", tiffinfo={262: 0})
    # Pillow writes 8-bit values inverted, and 16-bit values as they are: both files have the value 0 everywhere.
    assert gray(eight).min() == gray(sixteen).min() == 255
    full = np.full((8, 8), value, np.uint8)
    assert (gray(tiff(full, photometric=0)) == 255 - value).all()
    assert (gray(tiff(full.astype(np.uint16) * 257, photometric=0)) == 255 - value).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("deflate", [False, True])
def test_12_bits_are_scaled_by_4095(order, photometric, deflate):
    values = np.arange(48).reshape(6, 8) * 87
    packed = bytearray()
    for first, second in values.reshape(-1, 2).tolist():
        packed += bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255])
    data = tiff(values.astype(np.uint16), order, photometric, bits=12, strip=bytes(packed), deflate=deflate)
    expected = np.rint(values / 4095 * 255)
    np.testing.assert_array_equal(gray(data), expected if photometric else 255 - expected)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("photometric", [0, 1])
def test_bits_below_8_are_scaled(bits, photometric):
    top = (1 << bits) - 1
    values = np.array([[number % (top + 1) for number in range(8)]] * 2)
    packed = bytes(
        sum(value << (8 - bits * (place + 1)) for place, value in enumerate(row[at : at + 8 // bits]))
        for row in values.tolist()
        for at in range(0, 8, 8 // bits)
    )
    data = tiff(values.astype(np.uint8), photometric=photometric, bits=bits, strip=packed)
    expected = values * 255 // top
    np.testing.assert_array_equal(gray(data), expected if photometric else 255 - expected)


def test_undefined_sample_formats_are_unsigned():
    assert (gray(tiff(ramp("uint16"), form=4)) == GRAY).all()
    assert (gray(tiff(ramp("uint8"), form=4, photometric=0)) == 255 - GRAY).all()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("deflate", [False, True])
def test_16_bit_colors_are_the_same_in_one_plane_or_several(order, planes, deflate):
    colors = np.random.default_rng(0).integers(0, 65536, (6, 8, 3)).astype(np.uint16)
    pixels = np.asarray(decode(tiff(colors, order, 2, planes=planes, deflate=deflate)).image)
    np.testing.assert_array_equal(pixels, colors >> 8)


def colored(bands, top=4095):
    values = np.random.default_rng(0).integers(0, top + 1, (6, 8, bands)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, top
    if bands in (2, 4):
        values[..., -1] = 65535
    return values


FILES_OF_12_IN_16_BITS = {
    **{f"png {bands}": lambda bands=bands: (colored(bands), png16(colored(bands))) for bands in (1, 2, 3, 4)},
    **{
        f"tiff {order}{planes}{deflate}": lambda order=order, planes=planes, deflate=deflate: (
            colored(3), tiff(colored(3), order, 2, planes=planes, deflate=deflate)
        )
        for order in "<>" for planes, deflate in ((False, False), (False, True), (True, False))
    },
    "tiff alpha": lambda: (colored(4), tiff(colored(4), "<", 2, tags={338: shorts(2)})),
    "tiff unused": lambda: (colored(4), tiff(colored(4), ">", 2, tags={338: shorts(0, order=">")}, deflate=True)),
    "tiff gray": lambda: (colored(1), tiff(colored(1)[..., 0])),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES_OF_12_IN_16_BITS)
def test_a_range_scales_gray_and_colors_of_16_bits_without_loss(name):
    values, data = FILES_OF_12_IN_16_BITS[name]()
    colors = values[..., :3] if values.shape[2] > 2 else values[..., :1]
    decoded = decode(data, value_range=ValueRange.parse("0:4095"))
    np.testing.assert_array_equal(np.asarray(decoded.image), np.broadcast_to(np.rint(colors / 4095 * 255), (6, 8, 3)))
    assert decoded.remarks == PixelRemark(0)
    assert decode(data).remarks == PixelRemark.NARROW
    assert decode(data, value_range=ValueRange.parse("0:1000")).remarks == PixelRemark.CLIPPED


@pytest.mark.parametrize(
    "file",
    [
        lambda values: tiff(values, "<", 2, tags={338: shorts(1)}),
        lambda values: tiff(values[..., :3], planes=True, photometric=2, deflate=True),
    ],
)
def test_colors_whose_low_bytes_cannot_be_loaded_are_scaled_by_their_high_bytes(file):
    values = colored(4)
    pixels = np.asarray(decode(file(values), value_range=ValueRange.parse("0:4095")).image)
    assert np.abs(pixels - values[..., :3] / 4095 * 255).max() <= 16


def test_images_that_fill_an_eighth_of_the_range_need_no_remark():
    values = np.array([[0, 8192]], np.uint16)
    assert decode(tiff(values)).remarks == PixelRemark(0)
    assert decode(tiff(values // 2)).remarks == PixelRemark.NARROW
    assert decode(tiff((values // 2).astype(np.uint8))).remarks == PixelRemark(0)  # 8 bits have no other range.


def test_values_that_are_not_finite_are_black_and_get_a_remark():
    values = np.array([[0, 0.5, 1, np.nan, np.inf, -np.inf]], np.float32)
    decoded = decode(tiff(values))
    assert np.asarray(decoded.image)[0, :, 0].tolist() == [0, 128, 255, 0, 0, 0]
    assert decoded.remarks == PixelRemark.NOT_FINITE
    assert gray(tiff(values, photometric=0))[0].tolist() == [255, 127, 0, 0, 0, 0]
    assert gray(tiff(np.full((1, 2), np.nan, np.float32))).max() == 0


def test_signed_values_have_the_scale_of_the_data_set_and_not_of_the_image():
    """As `depth/signed*.tif` of people's files."""
    ramp = np.linspace(0, 3000, 64 * 64).reshape(64, 64).astype(np.int32)
    below = ramp.copy()
    below[0, 0] = -1
    one, other = (gray(encode(Image.fromarray(values), "TIFF"), "auto:-1:3000") for values in (ramp, below))
    np.testing.assert_array_equal(one.ravel()[1:], other.ravel()[1:])
    assert one.max() == 255
    with pytest.raises(ImageError, match=r"its values are -1 to 3000, .*; give --range LOW:HIGH"):
        decode(encode(Image.fromarray(below), "TIFF"))


@pytest.mark.parametrize("maximum", [255, 1023, 4095, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_the_maximum_of_a_pgm_is_white_and_ranges_are_in_its_values(maximum, plain):
    values = [0, maximum // 4, maximum // 2, maximum]
    if plain:
        data = f"P2 4 1 {maximum} {' '.join(map(str, values))}".encode()
    else:
        data = f"P5 4 1 {maximum}\n".encode() + struct.pack(">4H" if maximum > 255 else "4B", *values)
    expected = [round(value / maximum * 255) for value in values]
    assert np.abs(gray(data)[0] - expected).max() <= 1
    if maximum > 255:
        assert np.abs(gray(data, f"0:{maximum // 2}")[0] - [0, expected[2], 255, 255]).max() <= 1


def fits(values, **cards):
    bits = {"u1": 8, "i2": 16, "i4": 32, "f4": -32}[values.dtype.str[1:]]
    header = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": values.shape[1], "NAXIS2": values.shape[0], **cards}
    lines = [f"{name:8}= {value:>20}".ljust(80) for name, value in header.items()] + ["END".ljust(80)]
    text = "".join(lines).encode()
    pixels = values[::-1].astype(values.dtype.newbyteorder(">")).tobytes()
    return text.ljust(-(-len(text) // 2880) * 2880) + pixels.ljust(-(-len(pixels) // 2880) * 2880, b"\0")


def test_fits_integers_have_a_sign_and_the_scale_of_the_header():
    values = np.array([[-100, 0, 300]], np.int16)
    assert gray(fits(values), "-100:300")[0].tolist() == [0, 64, 255]
    assert gray(fits(values, BSCALE="2.0", BZERO="100"), "-100:700")[0].tolist() == [0, 64, 255]
    with pytest.raises(ImageError, match="its values are -100 to 300"):
        decode(fits(values))
    unsigned = (np.array([[0, 32896, 65535]]) - 32768).astype(np.int16)
    assert gray(fits(unsigned, BZERO="32768"))[0].tolist() == [0, 128, 255]
    assert gray(fits(np.array([[0.0, 1, 2]], np.float32), BSCALE="0.5"))[0].tolist() == [0, 128, 255]
    assert gray(fits(np.array([[-5, 70000]], np.int32)), "-5:70000")[0].tolist() == [0, 255]


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_jpeg_2000_is_scaled_by_its_precision(bits):
    values = np.rint(np.linspace(0, 65535, 64 * 64).reshape(64, 64)).astype(np.uint16)
    data = encode(Image.fromarray(values), "JPEG2000", irreversible=False)
    assert np.abs(gray(data) - values / 257).max() <= 1
    if bits < 16:
        # The precision is one byte of the header; then a value is read as the same share of the range.
        at = data.index(b"\xff\x4f\xff\x51") + 42
        patched = data[:at] + bytes([bits - 1]) + data[at + 1 :]
        assert gray(patched, f"0:{(1 << bits) - 1}").shape == (64, 64)


def test_kinds_of_files_that_pillow_does_not_know_are_not_called_damaged():
    with pytest.raises(
        ImageError, match=r"^no kind of TIFF that Pillow knows: 32 \+ 32 \+ 32 bits per pixel, floats, .*; convert"
    ):
        decode(tiff(np.zeros((4, 4, 3), np.float32), photometric=2))
    with pytest.raises(ImageError, match=r"^no kind of TIFF that Pillow knows: 64 bits per pixel, unsigned integers"):
        decode(tiff(np.zeros((4, 4), np.uint64)))
    data = bytearray(encode(Image.new("L", (8, 8)), "JPEG"))
    data[data.index(b"\xff\xc0") + 4] = 12
    with pytest.raises(ImageError, match=r"^no kind of JPEG that Pillow knows: cannot handle 12-bit layers$"):
        decode(bytes(data))


COLORS = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)


def with_alpha(alpha):
    return Image.fromarray(np.dstack([COLORS, np.full((6, 8), alpha, np.uint8)]))


@pytest.mark.parametrize("format_", ["TGA", "PNG", "TIFF", "WEBP"])
def test_an_alpha_that_is_0_in_every_pixel_is_none(format_):
    """As `alpha/*.tga` of people's files."""
    options = {"lossless": True, "exact": True} if format_ == "WEBP" else {}
    decoded = decode(encode(with_alpha(0), format_, **options))
    np.testing.assert_array_equal(np.asarray(decoded.image), COLORS)
    assert decoded.remarks == PixelRemark.TRANSPARENT
    opaque = decode(encode(with_alpha(255), format_, **options))
    np.testing.assert_array_equal(np.asarray(opaque.image), COLORS)
    assert opaque.remarks == PixelRemark(0)


def test_other_kinds_of_transparency_that_hide_everything_are_none():
    gray_alpha = np.dstack([COLORS[..., 0], np.zeros((6, 8), np.uint8)])
    np.testing.assert_array_equal(gray(encode(Image.fromarray(gray_alpha, "LA"), "PNG")), COLORS[..., 0])
    palette = Image.fromarray(COLORS).quantize(4)
    data = encode(palette, "PNG", transparency=bytes(4))
    np.testing.assert_array_equal(np.asarray(decode(data).image), np.asarray(palette.convert("RGB")))
    sixteen = np.dstack([COLORS.astype(np.uint16) * 257, np.zeros((6, 8), np.uint16)])
    np.testing.assert_array_equal(np.asarray(decode(png16(sixteen)).image), COLORS)
    la = png16(sixteen[..., [0, 3]])
    np.testing.assert_array_equal(gray(la), COLORS[..., 0])


def test_colors_premultiplied_by_an_alpha_of_0_are_kept():
    data = tiff(np.dstack([COLORS, np.zeros((6, 8), np.uint8)]), photometric=2, tags={338: shorts(1)})
    np.testing.assert_array_equal(np.asarray(decode(data).image), COLORS)


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_images_of_a_python_data_set_keep_their_values(dtype):
    image = Image.fromarray(ramp(dtype))
    image.getexif()[0x0112] = 3
    np.testing.assert_array_equal(gray(encode_upright(image), "dtype"), GRAY[::-1, ::-1])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_opened_images_are_scaled_by_their_tags(dtype):
    data = tiff(ramp(dtype), photometric=0)
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(load_upright(image, value_range=ValueRange.parse("dtype")).image)[..., 0]
    np.testing.assert_array_equal(pixels, 255 - GRAY)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(gray(encode_upright(image), "dtype"), 255 - GRAY)
