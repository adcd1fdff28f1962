import numpy as np
import pytest
from PIL import Image, ImageCms

from featx.errors import ImageError
from featx.images.pixels.colors import from_array, to_rgb
from featx.spec.value_range import ValueRange

pytestmark = pytest.mark.core

COLOR = (200, 30, 60)
HALF = 128
# A mix of 128/255 of the color with white.
HALF_ON_WHITE = tuple(round((value * HALF + 255 * (255 - HALF)) / 255) for value in COLOR)


def one(mode, value):
    return Image.new(mode, (3, 2), value)


def palette(**info):
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, *COLOR])
    image.info.update(info)
    return image


def lab():
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(one("RGB", COLOR), *profiles, outputMode="LAB")


def premultiplied(mode):
    return one(mode.upper(), (*COLOR[: len(mode) - 1], HALF)).convert(mode)


@pytest.mark.parametrize(
    ("image", "expected", "tolerance"),
    [
        (one("RGB", COLOR), COLOR, 0),
        (one("RGBX", (*COLOR, 0)), COLOR, 0),
        (one("L", 77), (77, 77, 77), 0),
        (one("1", 1), (255, 255, 255), 0),
        (one("1", 0), (0, 0, 0), 0),
        (palette(), COLOR, 0),
        (palette(transparency=1), COLOR, 0),
        (palette(transparency=bytes([255, HALF])), HALF_ON_WHITE, 1),
        (one("LA", (0, HALF)), (127, 127, 127), 0),
        (one("LA", (9, 0)), (9, 9, 9), 0),
        (palette().convert("PA"), COLOR, 0),
        (one("RGBA", (*COLOR, HALF)), HALF_ON_WHITE, 0),
        (one("RGBA", (*COLOR, 0)), COLOR, 0),
        (premultiplied("RGBa"), HALF_ON_WHITE, 2),
        (premultiplied("La"), (227, 227, 227), 2),
        (one("CMYK", (0, 255, 255, 0)), (255, 0, 0), 0),
        (one("CMYK", (0, 0, 0, 255)), (0, 0, 0), 0),
        (one("RGB", COLOR).convert("YCbCr"), COLOR, 2),
        (one("RGB", COLOR).convert("HSV"), COLOR, 3),
        (lab(), COLOR, 2),
        (one("I;16", 257 * 93), (93, 93, 93), 0),
        (one("I;16", 65535), (255, 255, 255), 0),
        (one("I;16B", 257 * 93), (93, 93, 93), 0),
        (one("I;16L", 257 * 93), (93, 93, 93), 0),
        (one("I", 257 * 93), (93, 93, 93), 0),
        (one("F", 1.0), (255, 255, 255), 0),
        (one("F", 0.2), (51, 51, 51), 0),
        (one("F", float("nan")), (0, 0, 0), 0),
        (one("F", float("-inf")), (0, 0, 0), 0),
    ],
    ids=lambda value: f"{value.mode}{value.getpixel((0, 0))}" if isinstance(value, Image.Image) else None,
)
def test_every_mode_is_converted_to_the_visible_color(image, expected, tolerance):
    rgb = to_rgb(image)
    assert rgb.mode == "RGB"
    assert rgb.size == image.size
    assert np.abs(np.asarray(rgb).astype(int) - expected).max() <= tolerance


def test_the_transparent_part_of_an_image_is_white():
    image = one("RGBA", (*COLOR, 0))
    image.putpixel((0, 0), (*COLOR, 255))
    pixels = np.asarray(to_rgb(image))
    assert pixels[0, 0].tolist() == list(COLOR)
    assert (pixels[1:] == 255).all()


@pytest.mark.parametrize(
    ("values", "value_range", "expected"),
    [
        (np.array([[0, 257, 65535]], dtype=np.int32), "auto", [0, 1, 255]),
        (np.array([[0, 257, 65535]], dtype=np.uint16), "auto", [0, 1, 255]),
        (np.array([[0, 257, 65535]], dtype=np.uint16), "dtype", [0, 1, 255]),
        (np.array([[0, 257, 65535]], dtype=np.uint16), "auto:-1:3000", [0, 1, 255]),
        (np.array([[0, 819, 4095, 5000]], dtype=np.uint16), "0:4095", [0, 51, 255, 255]),
        (np.array([[-100, 0, 100]], dtype=np.int32), "auto:-100:100", [0, 128, 255]),
        (np.array([[-100, 0, 100, 200]], dtype=np.int32), "-100:100", [0, 128, 255, 255]),
        (np.array([[-(2**31), 0, 2**31 - 1]], dtype=np.int32), "dtype", [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), "auto", [0, 128, 255]),
        (np.array([[-1.0, 0.5, 2.0]], dtype=np.float32), "dtype", [0, 128, 255]),
        (np.array([[10.0, 20.0, 30.0]], dtype=np.float32), "10:30", [0, 128, 255]),
        (np.array([[10.0, np.nan, 30.0]], dtype=np.float32), "10:30", [0, 0, 255]),
        (np.array([[np.inf, 0.5, 1.0]], dtype=np.float32), "auto", [0, 128, 255]),
    ],
)
def test_gray_values_of_more_than_8_bits_are_scaled_by_the_range(values, value_range, expected):
    rgb = to_rgb(Image.fromarray(values), ValueRange.parse(value_range))
    np.testing.assert_array_equal(np.asarray(rgb)[0, :, 0], expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.array([[-1, 3000]], dtype=np.int32),
            "its values are -1 to 3000, .* not all within 0 to 65535; give --range",
        ),
        (np.array([[0.0, 1.5]], dtype=np.float32), r"its values are 0 to 1\.5, .* not all within 0 to 1; give --range"),
    ],
)
def test_values_outside_the_usual_range_are_not_guessed(values, message):
    with pytest.raises(ImageError, match=message):
        to_rgb(Image.fromarray(values))


def test_an_rgb_image_is_not_copied():
    image = one("RGB", COLOR)
    assert to_rgb(image) is image


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_an_image_without_pixels_is_refused(size):
    with pytest.raises(ImageError, match=f"^{size[0]} × {size[1]} pixels: the image is empty$"):
        to_rgb(Image.new("RGB", size))


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4)])
def test_arrays_become_rgb(shape):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    if shape[2:] == (4,):
        array[..., 3] = 255
    image = from_array(array)
    assert image.mode == "RGB"
    assert image.size == (5, 4)
    colors = array.reshape(4, 5, -1)[..., :3]
    np.testing.assert_array_equal(np.asarray(image), np.broadcast_to(colors, (4, 5, 3)))


def test_strided_arrays_become_rgb():
    array = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(3, 6, 4).transpose(2, 1, 0)[::-1, ::2]
    np.testing.assert_array_equal(np.asarray(from_array(array)), array)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((4, 5, 3), np.float32),
            r"must be uint8, got float32; .*\(array \* 255\).round\(\).astype\('uint8'\)",
        ),
        (np.zeros((4, 5), np.int64), "must be uint8, got int64"),
        (np.zeros((4, 5), bool), "must be uint8, got bool"),
        (np.zeros((3, 4, 5), np.uint8), r"got \(3, 4, 5\); array.transpose\(1, 2, 0\)"),
        (np.zeros(5, np.uint8), r"got \(5,\)"),
        (np.zeros((1, 4, 5, 3), np.uint8), r"got \(1, 4, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"must have pixels, got shape \(0, 5, 3\)"),
    ],
)
def test_arrays_of_another_dtype_or_shape_are_refused(array, message):
    with pytest.raises(ImageError, match=message):
        from_array(array)
