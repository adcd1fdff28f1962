import hashlib
import itertools

import numpy as np
import pytest
from conftest import draw
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from featx.errors import ImageError
from featx.images.loading import load_images
from featx.images.pixels.augmentation import Transform, augmented_copies, draw_transform
from featx.images.pixels.colors import adjust_colors
from featx.images.pixels.placement import Placement, apply_placement
from featx.images.pixels.preprocessing import mean_color, preprocess
from featx.images.pixels.reference_images import draw_reference_images
from featx.images.sources.any_source import list_images
from featx.spec.augmentation import DEFAULT_AUGMENT, FILLS, parse_augment
from featx.spec.extract_spec import INTERPOLATIONS, RESIZES, ExtractSpec

DIGEST = hashlib.sha256(b"a picture").hexdigest()
SMOOTH = draw_reference_images()[0]
DRAWN = (-22.413642952, (0.000000000, 0.022760520, 1.000000000, 0.873116423), -0.010248769)
"""Degrees, crop and hue of one copy."""


def spec_of(**values):
    return ExtractSpec(**{"size": 64, "n_views": 2, "augment": "rotate", **values})


def placed(image, spec, **values):
    return apply_placement(image, Placement(**values), spec, preprocess(image, spec))


def test_copies_depend_only_on_seed_digest_and_index(tmp_path):
    for number in range(6):
        draw(0, number).save(tmp_path / f"{number}.png")
    spec = spec_of(size=32, n_views=4, augment=DEFAULT_AUGMENT + ",color")
    listing = list_images(tmp_path)
    loaded = {image.path: image.views for image in load_images(listing, range(6), spec, 1)}
    for image in load_images(listing, reversed(range(6)), spec, 3):
        np.testing.assert_array_equal(image.views, loaded[image.path])
    assert len({view.tobytes() for views in loaded.values() for view in views}) == 24


def test_more_copies_or_kinds_of_change_do_not_affect_the_others():
    few, many = (
        list(augmented_copies(SMOOTH, spec_of(n_views=count, augment=DEFAULT_AUGMENT), DIGEST)) for count in (2, 4)
    )
    np.testing.assert_array_equal(few, many[:2])
    augment = parse_augment("rotate")
    more = parse_augment("rotate,crop,hue")
    assert (
        draw_transform(augment, 0, DIGEST, 1).placement.degrees == draw_transform(more, 0, DIGEST, 1).placement.degrees
    )


@pytest.mark.parametrize("other", [(1, DIGEST, 1), (0, DIGEST[::-1], 1), (0, DIGEST, 2)])
def test_another_seed_digest_or_index_gives_another_copy(other):
    augment = parse_augment("rotate")
    assert draw_transform(augment, 0, DIGEST, 1) != draw_transform(augment, *other)


def test_drawn_values_never_change():
    """The features in existing stores depend on them."""
    view = draw_transform(parse_augment(DEFAULT_AUGMENT + ",color"), 0, DIGEST, 1)
    assert view.placement.degrees == pytest.approx(DRAWN[0])
    assert view.placement.crop == pytest.approx(DRAWN[1])
    assert view.hue == pytest.approx(DRAWN[2])


def test_copy_0_is_the_plain_image():
    first = next(augmented_copies(SMOOTH, spec_of(augment=DEFAULT_AUGMENT), DIGEST))
    np.testing.assert_array_equal(first, preprocess(SMOOTH, spec_of()))
    assert draw_transform(parse_augment(DEFAULT_AUGMENT), 0, DIGEST, 0) == Transform()


@given(st.integers(1, 1000), st.integers(0, 2**32))
@settings(deadline=None)
def test_drawn_values_stay_in_their_ranges(index, seed):
    augment = parse_augment(
        "rotate=-10:20,scale=0.5:2,crop=0.3:0.6,translate=0.2,brightness=0.5:0.6,contrast=1:2,saturation=0:1,hue=0.1"
    )
    view = draw_transform(augment, seed, DIGEST, index)
    assert -10 <= view.placement.degrees <= 20
    assert 0.5 <= view.placement.zoom <= 2
    assert max(map(abs, view.placement.shift)) <= 0.2
    left, top, width, height = view.placement.crop
    assert 0 <= left <= left + width <= 1 + 1e-9
    assert 0 <= top <= top + height <= 1 + 1e-9
    assert 0.3 - 1e-9 <= width * height <= 0.6 + 1e-9
    assert 0.5 <= view.brightness <= 0.6
    assert 1 <= view.contrast <= 2
    assert 0 <= view.saturation <= 1
    assert -0.1 <= view.hue <= 0.1


def test_drawn_values_are_spread_over_their_ranges():
    augment = parse_augment("rotate=30,scale=0.5:2")
    views = [draw_transform(augment, 0, DIGEST, index).placement for index in range(1, 1001)]
    degrees = np.array([view.degrees for view in views])
    assert abs(np.histogram(degrees, 6, (-30, 30))[0] - 1000 / 6).max() < 45
    assert abs(np.mean([np.log(view.zoom) for view in views])) < 0.05  # Doubled and halved sizes are equally frequent.


def test_mirroring_alternates():
    mirrors = [draw_transform(parse_augment("flip,vflip"), 0, DIGEST, index).placement.mirror for index in range(4)]
    assert mirrors == [(False, False), (True, False), (False, True), (True, True)]
    upright = [draw_transform(parse_augment("vflip"), 0, DIGEST, index).placement.mirror for index in range(2)]
    assert upright == [(False, False), (False, True)]


@pytest.mark.parametrize("resize", RESIZES)
def test_a_mirrored_copy_is_the_plain_one_mirrored(resize):
    spec = spec_of(n_views=4, augment="flip,vflip", resize=resize)
    plain, flipped, upside, both = augmented_copies(SMOOTH, spec, DIGEST)
    np.testing.assert_array_equal(flipped, plain[:, ::-1])
    np.testing.assert_array_equal(upside, plain[::-1])
    np.testing.assert_array_equal(both, plain[::-1, ::-1])


@pytest.mark.parametrize("mirror", list(itertools.product((False, True), repeat=2)))
def test_a_crop_is_resized_once(mirror):
    spec = spec_of(augment="crop", interpolation="lanczos")
    across, down = (-1 if mirrored else 1 for mirrored in mirror)
    part = SMOOTH.resize((64, 64), Image.Resampling.LANCZOS, box=(80, 120, 240, 240))
    pixels = placed(SMOOTH, spec, crop=(0.25, 0.5, 0.5, 0.5), mirror=mirror)
    np.testing.assert_array_equal(pixels, np.asarray(part)[::down, ::across])


def exact(image, spec, degrees, zoom, shift, crop=(0, 0, 1, 1), mirror=False, fine=6):
    """Compute a copy by its definition: the mean of many exact samples per pixel, mirrored outside the image."""
    width, height = image.size
    pixels = np.asarray(image).astype(float)
    x, y = np.meshgrid(*[(np.arange(spec.size * fine) + 0.5) / fine / spec.size - 0.5] * 2)
    x = -x if mirror else x
    x, y = (x - shift[0]) * width, (y - shift[1]) * height
    angle = np.deg2rad(degrees)
    x, y = (np.cos(angle) * x - np.sin(angle) * y) / zoom, (np.sin(angle) * x + np.cos(angle) * y) / zoom
    x = x * crop[2] + (crop[0] + crop[2] / 2) * width
    y = y * crop[3] + (crop[1] + crop[3] / 2) * height

    def inside(position, length):
        position = np.floor(position).astype(int) % (2 * length)
        return np.where(position >= length, 2 * length - 1 - position, position)

    samples = pixels[inside(y, height), inside(x, width)]
    return samples.reshape(spec.size, fine, spec.size, fine, 3).mean(axis=(1, 3))


@pytest.mark.parametrize(
    "values",
    [
        {"degrees": 30, "zoom": 1, "shift": (0, 0)},
        {"degrees": -75, "zoom": 0.7, "shift": (0.1, -0.2)},
        {"degrees": 10, "zoom": 1.5, "shift": (-0.3, 0.1), "crop": (0.1, 0.3, 0.6, 0.7)},
        {"degrees": 0, "zoom": 0.5, "shift": (0.4, 0.4)},
    ],
)
@pytest.mark.parametrize("mirror", [False, True])
def test_a_warp_agrees_with_its_definition(values, mirror):
    spec = spec_of(fill="symmetric", size=96)
    image = SMOOTH.resize((288, 180))
    expected = exact(image, spec, **values, mirror=mirror)
    pixels = placed(image, spec, **values, mirror=(mirror, False))
    assert np.abs(pixels - expected).mean() < 3
    wrong = exact(image, spec, **{**values, "degrees": values["degrees"] + 3}, mirror=mirror)
    assert np.abs(pixels - wrong).mean() > 2 * np.abs(pixels - expected).mean()


def test_positive_degrees_rotate_counterclockwise():
    image = SMOOTH.resize((128, 128))
    rotated = placed(image, spec_of(), degrees=90)
    assert np.abs(rotated.astype(int) - np.rot90(preprocess(image, spec_of()))).mean() < 2


def test_a_shift_moves_right_and_down_and_a_zoom_enlarges():
    pixels = np.zeros((60, 60, 3), np.uint8)
    pixels[20:40, 20:40] = 255
    image, spec = Image.fromarray(pixels), spec_of(size=60, fill="edge")
    rows, columns = np.nonzero(placed(image, spec, shift=(0.25, 0.1))[..., 0] > 127)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (35, 54, 26, 45)
    rows, columns = np.nonzero(placed(image, spec, zoom=2)[..., 0] > 127)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 49, 10, 49)


def test_warping_is_antialiased():
    checkers = Image.fromarray(np.indices((512, 512)).sum(axis=0).astype(np.uint8) % 2 * 255).convert("RGB")
    for values in ({"degrees": 20}, {"zoom": 0.8}, {"crop": (0.1, 0.1, 0.8, 0.8)}):
        assert placed(checkers, spec_of(), **values).astype(int).std() < 12


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("values", [{"degrees": 30}, {"shift": (1, -1), "degrees": 170}, {"zoom": 0.1}])
def test_the_area_outside_the_image_is_filled(fill, values):
    image = Image.fromarray(np.random.default_rng(0).integers(160, 200, (70, 90, 3), dtype=np.uint8))
    spec = spec_of(fill=fill)
    pixels = placed(image, spec, **values)
    if fill == "constant":
        corner = pixels[0, 0].tolist()
        assert corner == list(mean_color(spec))
    else:
        assert 160 <= pixels.min() <= pixels.max() < 200


@pytest.mark.parametrize("fill", ["reflect", "symmetric", "edge"])
def test_fill_modes_equal_those_of_numpy(fill):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8))
    shifted = placed(image, spec_of(size=60, fill=fill, interpolation="nearest"), shift=(0.5, 0.25))
    np.testing.assert_array_equal(shifted, np.pad(image, ((15, 0), (30, 0), (0, 0)), mode=fill)[:60, :60])


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (400, 3), (65, 64)])
def test_images_of_any_size_can_be_augmented(resize, interpolation, size):
    image = Image.new("RGB", size, (250, 240, 230))
    augment = "flip,rotate=180,scale=0.1:10,crop=0.01:1,translate=1,color"
    spec = spec_of(size=32, n_views=6, augment=augment, resize=resize, interpolation=interpolation)
    views = list(augmented_copies(image, spec, DIGEST))
    assert {(view.shape, view.dtype.name, view.flags.c_contiguous) for view in views} == {((32, 32, 3), "uint8", True)}
    assert min(view.min() for view in views) > 40


def test_copies_show_padding_or_pixels_outside_the_center_square():
    image = Image.new("RGB", (100, 50), (255, 0, 0))
    spec = spec_of(resize="pad", augment="scale")
    pixels = placed(image, spec, zoom=0.9)
    assert pixels[0, 32].tolist() == list(mean_color(spec))
    assert pixels[32, 32].tolist() == [255, 0, 0]
    image.paste((0, 255, 0), (0, 0, 20, 50))  # Left of the centered square, which begins at 25.
    assert (placed(image, spec_of(resize="crop"), shift=(0.2, 0))[:, 0] == (0, 255, 0)).all()


def test_an_image_without_pixels_cannot_be_augmented():
    with pytest.raises(ImageError):
        next(augmented_copies(Image.new("RGB", (0, 5)), spec_of(), DIGEST))


def test_colors_change_as_defined():
    pixels = np.asarray(draw(0, 3)).copy()
    gray = pixels @ np.array([0.299, 0.587, 0.114])
    for values, expected in {
        (1.5, 1, 1, 0): 1.5 * pixels,
        (1, 0.5, 1, 0): 0.5 * pixels + 0.5 * gray.mean(),
        (1, 1, 0, 0): np.repeat(gray[..., None], 3, axis=-1),
        (0.8, 1.3, 1, 0): 1.3 * (0.8 * pixels - 0.8 * gray.mean()) + 0.8 * gray.mean(),
    }.items():
        assert np.abs(adjust_colors(pixels, *values) - np.clip(expected, 0, 255)).max() <= 1
    assert adjust_colors(pixels, 1, 1, 1, 0) is pixels


def test_hue_rotates_colors_and_keeps_grays():
    grays = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(16, 16, 3)
    assert np.abs(adjust_colors(grays, 1, 1, 1, 0.3).astype(int) - grays).max() <= 1
    soft = np.full((4, 4, 3), (150, 110, 110), np.uint8)
    third = adjust_colors(soft, 1, 1, 1, 1 / 3)[0, 0].astype(int)
    assert third.argmax() != 0
    assert third @ np.array([0.299, 0.587, 0.114]) == pytest.approx(150 * 0.299 + 110 * 0.701, abs=1)
    back = adjust_colors(adjust_colors(soft, 1, 1, 1, 0.5), 1, 1, 1, 0.5)
    assert np.abs(back.astype(int) - soft).max() <= 2


def test_a_transform_is_described_in_words():
    assert str(Transform()) == "plain"
    view = Transform(Placement((True, True), 12.34, 0.9, (0.1, 0.2, 0.5, 0.6), (0.05, -0.1)), hue=0.01)
    assert str(view) == (
        "mirrored left to right and top to bottom, cropped to 0.50 × 0.60 at 0.10, 0.20, zoomed 0.9 times, "
        "rotated 12.3°, shifted 0.05, -0.10, hue 0.01"
    )
