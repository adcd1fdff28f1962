import dataclasses
import json

import numpy as np
import pytest

from featx.backbones.poolings import POOL_NAMES
from featx.errors import SpecError, SpecMismatch
from featx.spec.extract_spec import LATER, PRECISIONS, STORED_AS, ExtractSpec

pytestmark = pytest.mark.core


def test_json_can_be_read_again():
    spec = ExtractSpec(blocks=(5, 3), pools=("max", "avg"), size=384, resize="crop", precision="bf16")
    assert ExtractSpec.from_json(spec.to_json()) == spec
    assert spec.blocks == (3, 5)
    assert spec.pools == ("avg", "max")


def test_equal_specs_have_equal_digests():
    assert ExtractSpec(pools=("max", "avg", "max")).digest == ExtractSpec(pools=("avg", "max")).digest
    assert ExtractSpec(size=225).digest != ExtractSpec().digest


def test_features_are_ordered_by_block_then_by_pool():
    spec = ExtractSpec(blocks=(1, 5), pools=("max", "avg"))
    assert list(spec.widths.items()) == [
        ("block1_avg", 64),
        ("block1_max", 64),
        ("block5_avg", 512),
        ("block5_max", 512),
    ]
    assert spec.slices["block5_avg"] == slice(128, 640)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"blocks": (7,)}, "blocks of the spec: must be 1 to 5, got 7"),
        ({"pools": ()}, "pools of the spec must name at least one"),
        ({"pools": ("mean",)}, f"pools of the spec must be one of {', '.join(POOL_NAMES)}, got 'mean'"),
        ({"size": 31}, "size of the spec must be a whole number of at least 32 pixels, got 31"),
        ({"size": 224.0}, "got 224.0"),
        ({"size": True}, "got True"),
        ({"resize": "stretch"}, "resize of the spec must be one of squash, crop, pad, got 'stretch'"),
        ({"interpolation": "cubic"}, "interpolation of the spec must be one of"),
        ({"precision": "fp8"}, "precision of the spec must be one of auto, fp32, fp16, bf16, int8, got 'fp8'"),
        ({"preprocessing": "tf"}, "preprocessing of the spec must be one of oxford"),
    ],
)
def test_a_value_out_of_range_is_named(values, message):
    with pytest.raises(SpecError, match=message):
        ExtractSpec(**values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be a JSON object"),
        ("3", "must be a JSON object"),
        ("[]", "must be a JSON object"),
        ('["backbone"]', "must be a JSON object"),
        ('{"depth": 3}', "fields that this featx does not know: depth; update featx"),
        ('{"blocks": 3}', "wrong types"),
        ('{"pools": [["avg"]]}', "wrong types"),
        ('{"precision": "auto"}', "precision of a stored spec must be one of fp32, fp16, bf16, int8, got 'auto'"),
    ],
)
def test_a_text_that_is_not_a_spec_is_refused(text, message):
    with pytest.raises(SpecError, match=message):
        ExtractSpec.from_json(text)


def test_select_keeps_some_blocks_and_pools():
    spec = ExtractSpec(blocks=(3, 4, 5), pools=("avg", "max"))
    assert spec.select(blocks=(5,)).widths == {"block5_avg": 512, "block5_max": 512}
    with pytest.raises(SpecError, match=r"blocks must be among 3, 4, 5, which were extracted, got 1"):
        spec.select(blocks=(1, 5))
    with pytest.raises(SpecError, match="pools must be among avg, max, which were extracted, got flat"):
        spec.select(pools=("flat",))


def test_a_mismatch_names_the_field_the_values_and_the_remedy():
    with pytest.raises(SpecMismatch, match=r"size is 224 in a\.h5 but 384 in b\.h5; do this"):
        ExtractSpec().check_same(ExtractSpec(size=384), this="a.h5", that="b.h5", remedy="do this")
    ExtractSpec().check_same(ExtractSpec(), this="a", that="b", remedy="")


def test_every_precision_has_a_tolerance():
    assert all(0 < ExtractSpec(precision=precision).tolerance < 0.05 for precision in PRECISIONS)


def test_a_spec_with_precision_auto_cannot_be_stored():
    spec = ExtractSpec(precision="auto")
    with pytest.raises(SpecError, match=r"precision of a spec that is stored must be .* or let featx\.extract choose"):
        spec.to_json()
    with pytest.raises(SpecError, match="calibration of the spec is for precision int8"):
        dataclasses.replace(spec, calibration=(1.0,) * 13)


def test_a_spec_has_no_engine_device_or_batch_size():
    stored = {STORED_AS.get(field.name, field.name) for field in dataclasses.fields(ExtractSpec)}
    assert set(json.loads(ExtractSpec().to_json())) == stored - {STORED_AS.get(name, name) for name in LATER}
    assert not {"engine", "device", "batch_size", "workers"} & set(json.loads(ExtractSpec().to_json()))


def test_fields_added_later_do_not_change_older_digests():
    fields = {field.name: field.default for field in dataclasses.fields(ExtractSpec)}
    assert {name: fields[name] for name in LATER} == LATER
    assert ExtractSpec().digest == "dde78e2544840daffe596a485811f5e5ac1807ad914616bc103183fb7a186fa0"
    calibrated = ExtractSpec(precision="int8", calibration=(1.0,) * 13)
    assert ExtractSpec.from_json(calibrated.to_json()) == calibrated


def test_column_names_are_ordered_by_block_then_by_pool():
    spec = ExtractSpec(blocks=(1, 2), pools=("avg", "max"))
    assert spec.width == len(spec.column_names) == 2 * (64 + 128)
    assert [spec.column_names[at] for at in (0, 63, 64, 128, -1)] == [
        "block1_avg_0", "block1_avg_63", "block1_max_0", "block2_avg_0", "block2_max_127",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"calibration": (1.0,) * 13},
            "calibration of the spec is for precision int8, got precision fp32; leave it out",
        ),
        (
            {"precision": "int8", "calibration": (1.0,) * 12},
            "calibration of the spec must be 13 positive numbers, got 1.0",
        ),
        (
            {"precision": "int8", "calibration": (0.0,) * 13},
            "calibration of the spec must be 13 positive numbers, got 0.0",
        ),
    ],
)
def test_a_calibration_that_does_not_fit_is_refused(values, message):
    with pytest.raises(SpecError, match=message):
        ExtractSpec(**values)


def test_numpy_integers_are_accepted():
    spec = ExtractSpec(size=np.int64(64), n_views=np.int32(2), augment="flip", view_seed=np.uint8(3))
    assert spec == ExtractSpec(size=64, n_views=2, augment="flip", view_seed=3)
    assert spec.to_json() == ExtractSpec(size=64, n_views=2, augment="flip", view_seed=3).to_json()
    with pytest.raises(SpecError, match="size of the spec must be a whole number"):
        ExtractSpec(size=True)


def test_the_repr_shows_what_differs_from_the_defaults():
    assert repr(ExtractSpec()) == "ExtractSpec()"
    spec = ExtractSpec(blocks="4-5", precision="int8", calibration=(1.0,) * 13, backbone_digest="25d244c5" + "0" * 56)
    assert repr(spec) == (
        "ExtractSpec(backbone_digest='25d244c5…', blocks=(4, 5), precision='int8', calibration=(13 numbers))"
    )
