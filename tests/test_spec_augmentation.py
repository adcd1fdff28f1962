import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featx.errors import SpecError
from featx.spec.augmentation import (
    DEFAULT_AUGMENT,
    DEFAULT_PREDICT_AUGMENT,
    FLIPS,
    TRANSFORMS,
    format_augment,
    parse_augment,
)
from featx.spec.extract_spec import LATER, ExtractSpec


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", ""),
        ("rotate=30,flip", "flip,rotate=30"),
        (" flip , rotate = 30.0 ", "flip,rotate=30"),
        (
            "flip,rotate=30,scale=0.8:1.2,crop,translate=0.1",
            "flip,rotate=30,scale=0.8:1.2,crop=0.5:1,translate=0.1",
        ),
        ("rotate=-10:30", "rotate=-10:30"),
        ("rotate=-30:30", "rotate=30"),
        ("hue=-0:0", "hue=0"),
        ("color", "brightness=0.8:1.2,contrast=0.8:1.2,saturation=0.8:1.2,hue=0.02"),
        ("color=0.3,vflip", "vflip,brightness=0.7:1.3,contrast=0.7:1.3,saturation=0.7:1.3,hue=0.03"),
        ("scale=1e-1:1", "scale=0.1:1"),
    ],
)
def test_equal_augmentations_have_one_canonical_text(text, canonical):
    assert format_augment(parse_augment(text)) == canonical
    assert format_augment(parse_augment(canonical)) == canonical


def test_the_defaults_can_be_parsed():
    assert parse_augment(DEFAULT_AUGMENT).keys() > parse_augment(DEFAULT_PREDICT_AUGMENT).keys() == {"flip"}


@st.composite
def ranges(draw):
    name = draw(st.sampled_from([name for name in TRANSFORMS if name not in FLIPS]))
    low, high = TRANSFORMS[name].limits
    ends = st.floats(low, high, allow_subnormal=False)
    return name, tuple(sorted((draw(ends), draw(ends))))


@given(st.lists(ranges()).map(dict))
def test_formatted_ranges_can_be_parsed_again(parts):
    text = ",".join(f"{name}={low!r}:{high!r}" for name, (low, high) in parts.items())
    augment = parse_augment(text)
    assert augment == parts
    assert parse_augment(format_augment(augment)) == augment


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flop", "must name transforms among flip, vflip, rotate, scale, .*, hue, color, got 'flop'"),
        ("flip,", "must name transforms among .* got ''"),
        ("flip=1", "takes no value for flip, got 'flip=1'; give the name alone"),
        ("flip,rotate,flip", "has flip twice; give each transform once"),
        ("color,hue=0.1", "has hue twice"),
        ("rotate=far", "must have numbers for rotate, degrees of -180 to 180, such as 30 or -10:30, got 'far'"),
        ("rotate=1:2:3", "must have numbers for rotate, .* got '1:2:3'"),
        ("rotate=", "must have numbers for rotate, .* got ''"),
        ("rotate=270", "must have for rotate degrees of -180 to 180, .* got '270'"),
        ("rotate=-5", "must have for rotate degrees .* got '-5'"),
        ("rotate=nan", "must have for rotate degrees .* got 'nan'"),
        ("scale=0.8", "must have a range low:high for scale, factors of 0.1 to 10 .* got '0.8'"),
        ("scale=1.2:0.8", "must have for scale factors .* got '1.2:0.8'"),
        ("crop=0:1", "must have for crop fractions of the area of 0.01 to 1, .* got '0:1'"),
        ("translate=2", "must have for translate fractions of the side of -1 to 1, .* got '2'"),
        ("hue=0.6", "must have for hue turns of the color circle of -0.5 to 0.5, .* got '0.6'"),
        ("color=2", "must have for color one number of 0 to 1, such as 0.2, got '2'"),
        ("color=0:1", "must have for color one number of 0 to 1, .* got '0:1'"),
    ],
)
def test_an_invalid_augmentation_is_refused_with_the_reason(text, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        parse_augment(text)
    with pytest.raises(SpecError, match=f"^augment of the spec {message}"):
        ExtractSpec(n_views=2, augment=text)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_views": 0}, "n_views of the spec must be a whole number of at least 1, got 0"),
        ({"n_views": True}, "n_views of the spec must be .* got True"),
        ({"n_views": 2.0, "augment": "flip"}, "n_views of the spec must be .* got 2.0"),
        ({"n_views": 2, "augment": "flip", "view_seed": -1}, "view_seed of the spec must be .* at least 0, got -1"),
        (
            {"n_views": 2, "augment": "flip", "fill": "black"},
            "fill of the spec must be one of reflect, symmetric, edge",
        ),
        ({"n_views": 2}, "augment of the spec must name a transform for 2 views, such as flip, got none"),
        ({"augment": "flip"}, "augment, fill and view_seed of the spec are for n_views of 2 or more; leave them out"),
        ({"fill": "edge"}, "augment, fill and view_seed of the spec are for n_views"),
        ({"view_seed": 1}, "augment, fill and view_seed of the spec are for n_views"),
        ({"augment": 3, "n_views": 2}, "augment of the spec must name transforms among .* got '3'"),
    ],
)
def test_a_spec_with_invalid_augmentation_is_refused(values, message):
    with pytest.raises(SpecError, match=message):
        ExtractSpec(**values)


def test_equal_augmentations_give_equal_specs():
    spec = ExtractSpec(n_views=4, augment="rotate=30,flip", fill="edge", view_seed=7)
    assert spec.digest == ExtractSpec(n_views=4, augment="flip,rotate=-30:30", fill="edge", view_seed=7).digest
    assert ExtractSpec.from_json(spec.to_json()) == spec
    for field, value in {"n_views": 5, "augment": "flip", "fill": "reflect", "view_seed": 8}.items():
        assert dataclasses.replace(spec, **{field: value}).digest != spec.digest


def test_the_plain_spec_has_no_augmentation():
    assert ExtractSpec(size=64, n_views=4, augment="flip").plain == ExtractSpec(size=64)
    assert {"n_views", "augment", "fill", "view_seed"} <= set(LATER)
