import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from featx.cli.group import main
from featx.drawing.contact_sheet import GAP
from featx.errors import ImageError, SpecError
from featx.images.pixels.preprocessing import preprocess
from featx.images.pixels.reference_images import draw_reference_images
from featx.inspection.augmentation_preview import preview
from featx.spec.augmentation import DEFAULT_AUGMENT
from featx.spec.extract_spec import ExtractSpec

REVIEWED = Path(__file__).parent / "data" / "preview.png"
SPEC = ExtractSpec(size=64, n_views=12, augment=DEFAULT_AUGMENT + ",color")


@pytest.fixture
def image_file(tmp_path):
    """A drawn image whose bytes, and therefore its digest, are the same on every machine."""
    path = tmp_path / "image.ppm"
    draw_reference_images()[0].save(path)
    return path


def run(*args, code=0):
    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == code, result.output
    return result


def test_the_sheet_equals_the_reviewed_one(image_file):
    """Invisible differences are allowed, because processors round differently."""
    with Image.open(REVIEWED) as opened:
        reviewed = np.asarray(opened).astype(int)
    drawn = np.asarray(preview(image_file, SPEC).image).astype(int)
    assert drawn.shape == reviewed.shape
    assert np.abs(drawn - reviewed).mean() < 0.5


def test_a_sheet_has_the_copies_in_order_on_white(image_file):
    sheet = preview(image_file, ExtractSpec(size=40, n_views=5, augment="flip"))
    pixels = np.asarray(sheet.image)
    assert pixels.shape == (2 * 44 + GAP, 3 * 44 + GAP, 3)
    plain = preprocess(draw_reference_images()[0], ExtractSpec(size=40))
    for row, column, expected in ((0, 0, plain), (0, 1, plain[:, ::-1]), (0, 2, plain), (1, 0, plain[:, ::-1])):
        top, left = GAP + 44 * row, GAP + 44 * column
        np.testing.assert_array_equal(pixels[top : top + 40, left : left + 40], expected)
    assert (pixels[-44:, -44:] == 255).all()
    assert [str(view) for view in sheet.views[:2]] == ["plain", "mirrored left to right"]


def test_the_command_draws_the_same_sheet_as_the_function(image_file, tmp_path):
    options = ("--augment", "rotate=30", "--fill", "edge", "--seed", "7", "--n-views", "4", "--size", "48")
    result = run("preview", image_file, "-o", tmp_path / "sheet.png", *options)
    spec = ExtractSpec(size=48, n_views=4, augment="rotate=30", fill="edge", view_seed=7)
    sheet = preview(image_file, spec)
    with Image.open(tmp_path / "sheet.png") as drawn:
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(sheet.image))
    assert result.stdout.splitlines()[0] == "0: plain"
    assert "1: rotated" in result.stdout
    printed = json.loads(run("preview", image_file, "-o", tmp_path / "sheet.png", *options, "--json").stdout)
    assert [view["placement"]["degrees"] for view in printed["views"]] == [v.placement.degrees for v in sheet.views]
    assert run("preview", image_file, "-o", tmp_path / "sheet.jpg", "-q").stdout == ""
    assert (tmp_path / "sheet.jpg").read_bytes().startswith(b"\xff\xd8")


def test_defaults_are_those_of_the_command(image_file, tmp_path):
    run("preview", image_file, "-o", tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as drawn:
        np.testing.assert_array_equal(np.asarray(drawn), np.asarray(preview(image_file).image))


def test_a_sheet_shows_itself_in_notebooks(image_file):
    sheet = preview(image_file, ExtractSpec(size=40, n_views=5, augment="flip"))
    assert repr(sheet) == "AugmentationSheet(5 views, 136 × 92 pixels)"
    assert sheet._repr_png_().startswith(b"\x89PNG")


def test_unreadable_images_and_wrong_suffixes_are_refused(image_file, tmp_path):
    (tmp_path / "bad.jpg").write_text("not an image")
    with pytest.raises(ImageError, match=r"bad\.jpg: no image format"):
        preview(tmp_path / "bad.jpg", SPEC)
    with pytest.raises(ImageError, match="more than the 50000 allowed"):
        preview(image_file, SPEC, max_pixels=50_000)
    sheet = preview(image_file, SPEC)
    for name in ("sheet", "sheet.featx", "sheet.ani"):
        with pytest.raises(
            SpecError,
            match=f"--output of preview must end in the suffix of an image format, such as .png, got '{name}'",
        ):
            sheet.save(tmp_path / name)
    with pytest.raises(ImageError, match=r"sheet\.png cannot be written: No such file"):
        sheet.save(tmp_path / "nowhere" / "sheet.png")
    assert (
        "augment of the spec must name transforms"
        in run("preview", image_file, "-o", tmp_path / "sheet.png", "--augment", "flop", code=1).output
    )


@pytest.mark.parametrize("fill", ["reflect", "symmetric", "edge"])
def test_no_black_corners_after_a_rotation_by_30_degrees(flower_paths, fill):
    from featx.images.decoding.decoder import decode
    from featx.images.pixels.placement import Placement, apply_placement

    spec = ExtractSpec(size=96, n_views=2, augment="rotate=30", fill=fill)
    for path in flower_paths[::8]:
        image = decode(Path(path).read_bytes()).image
        plain = preprocess(image, spec)
        lifted = image.point(lambda value: 60 + value * 195 // 255)  # no pixel is black
        for degrees in (-30, 30):
            rotated = apply_placement(lifted, Placement(degrees=degrees), spec, plain)
            assert rotated.min() >= 55


def test_extract_and_predict_take_the_augmentation_options(shared_photos, tmp_path, oxford):
    store, model = tmp_path / "p.h5", tmp_path / "p.featx"
    options = ("--size", "32", "--blocks", "1", "--n-views", "2")
    result = run("extract", shared_photos, "-o", store, *options)
    assert "72 rows of 36 images, 72 extracted" in result.stdout
    facts = json.loads(run("info", store, "--json").stdout)
    assert facts["spec"]["n_views"] == 2
    assert facts["spec"]["augment"].startswith("flip,rotate=30,scale=0.8:1.2,crop=")
    run("fit", store, "-o", model, "--head", "softmax", "--C", "1", "--folds", "3", "-q")
    plain = run("predict", model, shared_photos / "red", "-q").stdout
    mean = run("predict", model, shared_photos / "red", "-q", "--n-views", "4", "--augment", "flip,vflip").stdout
    assert len(mean.splitlines()) == len(plain.splitlines()) == 13
    assert mean != plain
