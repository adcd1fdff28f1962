import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featx.backbones.registry import PREPROCESSINGS
from featx.errors import ImageError
from featx.images.pixels.preprocessing import preprocess
from featx.images.pixels.reference_images import draw_reference_images
from featx.spec.extract_spec import INTERPOLATIONS, RESIZES, ExtractSpec

pytestmark = pytest.mark.core

SPEC = ExtractSpec(size=64)
SMOOTH, SHARP, ROUGH = draw_reference_images()


def spec(**changes):
    return dataclasses.replace(SPEC, **changes)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(1, 1), (1, 30_000), (30_000, 1), (64, 64), (65, 63), (200, 300)])
def test_images_of_any_size_become_square_uint8_arrays(resize, interpolation, size):
    pixels = preprocess(Image.new("RGB", size, (9, 8, 7)), spec(resize=resize, interpolation=interpolation))
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels[31, 31], (9, 8, 7))


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_an_image_of_the_right_size_is_not_changed(resize, interpolation):
    pixels = preprocess(SHARP, spec(size=256, resize=resize, interpolation=interpolation))
    np.testing.assert_array_equal(pixels, np.asarray(SHARP))


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_squash_equals_pillows_resize(interpolation):
    filter_ = getattr(Image.Resampling, interpolation.upper())
    pixels = preprocess(SMOOTH, spec(interpolation=interpolation))
    np.testing.assert_array_equal(pixels, np.asarray(SMOOTH.resize((64, 64), filter_)))


@pytest.mark.parametrize("image", [SMOOTH, ROUGH], ids=["wide", "high"])
def test_crop_keeps_the_center(image):
    pixels = preprocess(image, spec(size=100, resize="crop"))
    scale = 100 / min(image.size)
    width, height = (round(side * scale) for side in image.size)
    whole = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).astype(int)
    top, left = (height - 100) // 2, (width - 100) // 2
    expected = whole[top : top + 100, left : left + 100]
    # Rounding the width shifts the center by up to half a pixel.
    assert np.abs(pixels - expected).mean() < 3


@pytest.mark.parametrize("preprocessing", PREPROCESSINGS)
def test_pad_fills_the_border_with_the_mean_color(preprocessing):
    mean = PREPROCESSINGS[preprocessing].mean
    pixels = preprocess(Image.new("RGB", (100, 50), (1, 2, 3)), spec(resize="pad", preprocessing=preprocessing))
    assert (pixels[16:48] == (1, 2, 3)).all()
    for border in (pixels[:16], pixels[48:]):
        assert np.abs(border - mean).max() <= 0.5


def test_pad_of_a_high_image_fills_left_and_right():
    pixels = preprocess(Image.new("RGB", (50, 100), (1, 2, 3)), spec(resize="pad"))
    assert (pixels[:, 16:48] == (1, 2, 3)).all()
    assert (pixels[:, :16] == (124, 117, 104)).all()


def test_shrinking_is_antialiased():
    # Stripes one pixel wide average to gray when 16 of them become one pixel.
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(preprocess(Image.fromarray(stripes), SPEC).astype(int) - 127.5).max() < 3


def test_images_of_other_modes_are_converted_to_rgb():
    np.testing.assert_array_equal(preprocess(Image.new("LA", (90, 70), (0, 128)), SPEC), np.full((64, 64, 3), 127))


def test_an_image_without_pixels_is_refused():
    with pytest.raises(ImageError, match="the image is empty"):
        preprocess(Image.new("RGB", (0, 3)), SPEC)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.integers(32, 96),
    st.sampled_from(RESIZES),
    st.sampled_from(INTERPOLATIONS),
)
def test_an_image_of_one_color_keeps_that_color(width, height, size, resize, interpolation):
    pixels = preprocess(
        Image.new("RGB", (width, height), (124, 117, 104)), spec(size=size, resize=resize, interpolation=interpolation)
    )
    assert (pixels == (124, 117, 104)).all()


@pytest.mark.parametrize("size", [(40, 300), (300, 40), (90, 70)], ids=["tall", "wide", "near"])
def test_images_are_resized_across_first_in_every_version_of_pillow(size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    across = image.resize((32, size[1]), Image.Resampling.BILINEAR)
    down = across.resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(preprocess(image, ExtractSpec(size=32)), np.asarray(down))
