"""Images of more than 8 bits have one scale per data set, which travels with store and model."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from tiff_files import tiff

from featx.cli.group import main
from featx.errors import ImageError, SpecError, SpecMismatch
from featx.extraction import assemble_shards, extract
from featx.images.loading import load_file, load_images
from featx.images.pixels.sample_values import PixelRemark
from featx.images.range_selection import FIRST_IMAGES, SAMPLED_IMAGES, choose_range
from featx.images.sources.any_source import list_images
from featx.inspection import audit, describe, preview
from featx.models.fitting import fit
from featx.models.prediction import predict
from featx.models.transformer import VGG16Features
from featx.runtime import Compute
from featx.spec.extract_spec import ExtractSpec
from featx.store import Store

SPEC = ExtractSpec(size=32, blocks=(1,))
pytestmark = pytest.mark.usefixtures("oxford")


def values(low, high, seed=0):
    """Make an int32 image (24, 24) with the values ``low`` and ``high``, and others between."""
    drawn = np.random.default_rng(seed).uniform(low, high, (24, 24))
    drawn[0, :2] = low, high
    return np.rint(drawn).astype(np.int32)


def write(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tiff(array, **options))


def features(path):
    with Store(path) as store:
        return dict(zip(store.paths, store.read(store.spec.widths), strict=True))


@pytest.fixture
def scans(tmp_path):
    """Two classes of scans with a sign: values of −1000 to 3000 in all, and less in each image."""
    for number in range(6):
        write(tmp_path / f"scans/air/{number}.tif", values(-1000, 200 * number, number))
        write(tmp_path / f"scans/bone/{number}.tif", values(100 * number, 3000, 50 + number))
    return tmp_path / "scans"


def test_signed_images_get_one_range_for_the_data_set(scans, tmp_path):
    report = extract(scans, tmp_path / "a.h5", SPEC)
    assert (report.range, report.remarks, report.failures) == ("auto:-1000:3000", {}, [])
    with Store(tmp_path / "a.h5") as store:
        assert store.spec.range == "auto:-1000:3000"
    extract(scans, tmp_path / "b.h5", dataclasses.replace(SPEC, range=(-1000, 3000)))
    for path, row in features(tmp_path / "b.h5").items():
        np.testing.assert_array_equal(row, features(tmp_path / "a.h5")[path])


def test_one_pixel_below_0_does_not_change_the_other_pixels(tmp_path):
    """As `depth/signed*.tif` of people's files."""
    ramp = np.linspace(0, 3000, 64 * 64).reshape(64, 64).astype(np.int32)
    below = ramp.copy()
    below[0, 0] = -1
    for name, array in (("signed", ramp), ("below", below)):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(array).save(tmp_path / "images" / f"{name}.tif")
    extract(tmp_path / "images", tmp_path / "a.h5", SPEC)
    rows = features(tmp_path / "a.h5")
    np.testing.assert_allclose(rows["below.tif"], rows["signed.tif"], rtol=1e-3, atol=0.05)
    with Store(tmp_path / "a.h5") as store:
        spec = dataclasses.replace(store.spec, size=64)
    signed, below = (load_file(tmp_path / "images" / f"{name}.tif", spec).pixels for name in ("signed", "below"))
    assert signed.max() == below.max() == 255
    np.testing.assert_array_equal(signed, below)


def test_a_model_predicts_with_the_range_of_its_training(scans, tmp_path):
    extract(scans, tmp_path / "a.h5", SPEC)
    model = fit(tmp_path / "a.h5", tmp_path / "a.featx", head="linear-svc", C=1.0)
    assert model.spec.range == "auto:-1000:3000"
    one = tmp_path / "one/new.tif"
    write(one, values(500, 700))
    pixels = load_file(one, dataclasses.replace(model.spec, size=32, interpolation="nearest")).pixels
    expected = np.rint((values(500, 700) + 1000) / 4000 * 255).astype(np.uint8)
    assert set(np.unique(pixels)) <= set(np.unique(expected))
    (alone,), together = predict(model, [scans / "air/0.tif"]), list(predict(model, [scans]))
    assert alone.decisions == pytest.approx(together[0].decisions, rel=1e-4)
    assert [found.remarks for found in together] == [()] * 12
    write(one, values(-2000, 700))
    output = run("predict", tmp_path / "a.featx", one, "--format", "jsonl")
    assert '"remarks": ["clipped"]' in output
    assert "warning: 1 image has values outside the range, which became black or white\n" in output


def test_a_store_of_another_range_does_not_fit_the_model(scans, tmp_path):
    extract(scans, tmp_path / "a.h5", SPEC)
    extract(scans / "air", tmp_path / "b.h5", SPEC)
    with (
        Store(tmp_path / "a.h5") as one,
        Store(tmp_path / "b.h5") as other,
        pytest.raises(SpecMismatch, match=r"range is auto:-1000:3000 in the model but auto:-1000:1000 in .*b.h5"),
    ):
        other.check_compatible(one.spec, "the model")


def test_a_store_keeps_its_range_when_images_are_added(scans, tmp_path):
    extract(scans, tmp_path / "a.h5", SPEC)
    write(scans / "bone/new.tif", values(-5000, 5000))
    report = extract(scans, tmp_path / "a.h5", SPEC)
    assert (report.extracted, report.range, report.remarks) == (1, "auto:-1000:3000", {"clipped": 1})
    with pytest.raises(SpecMismatch, match=r"range is auto:-1000:3000 in .*a.h5 but dtype in this extraction"):
        extract(scans, tmp_path / "a.h5", dataclasses.replace(SPEC, range="dtype"))
    report = extract(scans, tmp_path / "a.h5", SPEC, overwrite=True)
    assert (report.range, report.remarks) == ("auto:-5000:5000", {"narrow": 2})


def test_shards_agree_on_the_range(scans, tmp_path, monkeypatch):
    monkeypatch.setattr("featx.engines.streaming.PART_ROWS", 2)
    extract(scans, tmp_path / "whole.h5", SPEC)
    for shard in ("2/2", "1/2"):
        report = extract(scans, tmp_path / "a.h5", SPEC, Compute(shard=shard))
        assert report.range == "auto:-1000:3000"
    assert assemble_shards(tmp_path / "a.h5").range == "auto:-1000:3000"
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_images_of_8_and_16_bits_have_the_spec_of_older_versions(tmp_path):
    write(tmp_path / "images/8.tif", values(0, 255).astype(np.uint8))
    write(tmp_path / "images/16.tif", values(0, 65535).astype(np.uint16))
    Image.fromarray(values(0, 65535).astype(np.uint16)).save(tmp_path / "images/16.png")
    report = extract(tmp_path / "images", tmp_path / "a.h5", SPEC)
    assert (report.range, report.remarks) == ("auto", {})
    with Store(tmp_path / "a.h5") as store:
        assert "range" not in json.loads(store.spec.to_json())
        assert not store.remarks.any()


def test_types_with_a_range_of_their_own_keep_it_beside_others(tmp_path):
    write(tmp_path / "images/16.tif", values(0, 65535).astype(np.uint16))
    write(tmp_path / "images/signed.tif", values(-1, 3000))
    assert extract(tmp_path / "images", tmp_path / "a.h5", SPEC).remarks == {}
    spec = dataclasses.replace(SPEC, range="auto:-1:3000", interpolation="nearest", size=48)
    assert load_file(tmp_path / "images/16.tif", spec).pixels.max() == 255
    assert np.median(load_file(tmp_path / "images/16.tif", spec).pixels) < 200


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ([], "auto"),
        ([values(0, 255).astype(np.uint8)], "auto"),
        ([values(0, 4095).astype(np.uint16)], "auto"),
        ([values(0, 3000)], "auto"),
        ([values(0, 3000), values(-1, 5)], "auto:-1:3000"),
        ([values(0, 70000).astype(np.uint32)], "auto:0:70000"),
        ([values(0, 100) / np.float32(100)], "auto"),
        ([values(0, 100).astype(np.float64) / 40], "auto:0:2.5"),
        ([values(0, 100) / np.float32(100), values(0, 3000)], "auto"),
        ([values(0, 100) / np.float32(100), values(-10, 3000)], "auto:-10:3000"),
        ([np.full((4, 4), np.nan, np.float32)], "auto"),
        ([np.full((4, 4), -7, np.int32)], "auto:-7:-6"),
    ],
)
def test_the_range_is_that_of_the_images_that_need_one(tmp_path, arrays, expected):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    (tmp_path / "damaged.tif").write_bytes(b"II*\0")
    for number, array in enumerate(arrays):
        write(tmp_path / f"{number}.tif", array)
    assert str(choose_range(list_images(tmp_path), 10**6, workers=2)) == expected


@pytest.mark.parametrize(("signed", "reads"), [(True, FIRST_IMAGES + SAMPLED_IMAGES), (False, FIRST_IMAGES)])
def test_only_a_sample_is_read_and_no_jpeg(tmp_path, signed, reads):
    for number in range(200):
        array = values(-number - 1, number, number) if signed else values(0, number, number).astype(np.uint8)
        write(tmp_path / f"{number:03}.tif", array)
        (tmp_path / f"{number:03}.jpg").write_bytes(b"not read")
    listing, read = list_images(tmp_path), []
    counting = dataclasses.replace(listing, read=lambda row: read.append(listing.paths[row]) or listing.read(row))
    assert str(choose_range(counting, 10**6)) == ("auto:-200:199" if signed else "auto")
    assert len(read) == reads
    assert all(path.endswith(".tif") for path in read)


def test_values_that_no_range_covers_are_a_failure_with_a_remedy(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    extract(tmp_path, tmp_path / "a.h5", SPEC)
    write(tmp_path / "b.tif", values(-1, 3000))
    report = extract(tmp_path, tmp_path / "a.h5", SPEC)
    assert report.failures == [("b.tif", report.failures[0][1])]
    assert "its values are -1 to 3000, " in report.failures[0][1]
    assert "give --range LOW:HIGH to featx extract" in report.failures[0][1]


def run(*arguments, code=0):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.output


def test_images_that_fill_little_of_their_range_are_counted_and_an_option_helps(tmp_path):
    """As `depth/12-bits-in-16.png` of people's files."""
    folder = tmp_path / "images"
    folder.mkdir()
    array = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    Image.fromarray(array).save(folder / "12-bits-in-16.png")
    Image.fromarray(array * 16).save(folder / "16-bits.png")
    said = "1 image fills less than an eighth of the range of values, "
    common = ("-o", tmp_path / "a.h5", "--size", "32", "--blocks", "1")
    output = run("extract", folder, *common)
    assert said in output
    assert "--range 0:4095 --overwrite uses the whole range" in output
    assert said in run("info", tmp_path / "a.h5")
    assert json.loads(run("info", tmp_path / "a.h5", "--json"))["remarks"] == {"narrow": 1}
    # The count is of the store, not of the run.
    found = json.loads(run("extract", folder, *common, "--json"))
    assert (found["remarks"], found["extracted"]) == ({"narrow": 1}, 0)
    assert said not in run("extract", folder, *common, "--range", "0:4095", "--overwrite")
    assert "1 image has values outside the range" in run("extract", folder, *common, "--range", "0:4095")
    rows = features(tmp_path / "a.h5")
    assert rows["12-bits-in-16.png"].std() > 1


def test_the_remarks_follow_the_rows_of_a_store(scans, tmp_path):
    write(scans / "air/flat.tif", values(0, 9))
    spec = dataclasses.replace(SPEC, n_views=2, augment="flip")
    assert extract(scans, tmp_path / "a.h5", spec).remarks == {"narrow": 1}
    for label in ("air", "bone"):
        run("select", tmp_path / "a.h5", "--where", f"label == '{label}'", "-o", tmp_path / f"{label}.h5")
    assert describe(tmp_path / "air.h5")["remarks"] == {"narrow": 1}
    assert "remarks" not in describe(tmp_path / "bone.h5")
    run("merge", tmp_path / "air.h5", tmp_path / "bone.h5", "-o", tmp_path / "both.h5")
    assert describe(tmp_path / "both.h5")["remarks"] == {"narrow": 1}


def test_transparency_that_was_ignored_is_counted(tmp_path):
    """As `alpha/*.tga` of people's files."""
    (tmp_path / "images").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (24, 24, 3), np.uint8)
        image = Image.fromarray(np.dstack([pixels, np.zeros((24, 24), np.uint8)]))
        image.save(tmp_path / f"images/{number}.tga")
    output = run("extract", tmp_path / "images", "-o", tmp_path / "a.h5", "--size", "32", "--blocks", "1")
    assert "2 images are fully transparent everywhere: the transparency was ignored" in output
    first, second = features(tmp_path / "a.h5").values()
    assert np.abs(first - second).max() > 1


@pytest.mark.parametrize("value", ["wide", "5:1", "0:1:2", "0:nan", ""])
def test_a_wrong_range_is_refused(tmp_path, value):
    output = run("extract", tmp_path, "-o", tmp_path / "a.h5", "--range", value, code=2)
    expected = f"--range of extract must be auto, dtype or LOW:HIGH with LOW below HIGH, such as 0:4095, got {value!r}"
    assert expected in " ".join(output.split())
    with pytest.raises(SpecError, match="range of the spec must be auto, dtype or LOW:HIGH"):
        ExtractSpec(range=value)


def test_equal_ranges_have_equal_specs():
    assert ExtractSpec(range="-1e3:3000.0") == ExtractSpec(range=(-1000, 3000)) == ExtractSpec(range="-1000:3000")
    assert ExtractSpec.from_json(ExtractSpec(range="0:0.25").to_json()).range == "0:0.25"
    assert ExtractSpec(range="auto").digest == ExtractSpec().digest != ExtractSpec(range="dtype").digest


def test_a_python_data_set_keeps_more_than_8_bits(tmp_path):
    items = [(Image.fromarray(values(-10 * number, 1000, number)), "ab"[number % 2]) for number in range(4)]
    report = extract(items, tmp_path / "a.h5", SPEC)
    assert (report.range, report.failures) == ("auto:-30:1000", [])


def test_the_transformer_says_what_to_do_with_values_that_need_a_range(scans, tmp_path):
    paths = sorted(map(str, scans.rglob("*.tif")))
    transformer = VGG16Features(blocks=(1,), size=32)
    with pytest.raises(ImageError, match=r"its values are -1000 to 0, .*range of the spec"):
        transformer.transform(paths)
    cached = VGG16Features(blocks=(1,), size=32, cache=tmp_path / "cache.h5")
    np.testing.assert_array_equal(cached.transform(paths), cached.transform(paths))


def test_audit_and_preview_choose_a_range(scans):
    assert preview(scans / "air/0.tif", ExtractSpec(size=32, n_views=2, augment="flip")).image.getextrema()[0][1] > 200
    report = audit(scans, dataclasses.replace(SPEC), images=4, mistakes=())
    assert not report.failed


def test_decoding_processes_use_the_range(scans):
    listing, spec = list_images(scans), dataclasses.replace(SPEC, range="0:100")
    apart, together = (
        list(load_images(listing, range(2), spec, workers=1, processes=processes)) for processes in (True, False)
    )
    assert [image.remarks for image in apart] == [image.remarks for image in together] == [PixelRemark.CLIPPED] * 2
    for one, other in zip(apart, together, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


def test_data_sets_within_the_usual_values_can_be_compared(tmp_path):
    """A model of 8-bit images fits a store of other types, if their values say themselves what is black and white."""
    Image.fromarray(values(0, 255).astype(np.uint8)).save(tmp_path / "a.png")
    extract([tmp_path / "a.png"], tmp_path / "a.h5", SPEC)
    write(tmp_path / "b.tif", values(0, 65535))
    extract([tmp_path / "b.tif"], tmp_path / "b.h5", SPEC)
    with Store(tmp_path / "a.h5") as one, Store(tmp_path / "b.h5") as other:
        other.check_compatible(one.spec, "the model")
