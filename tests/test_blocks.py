import pytest

from featx.backbones import vgg16 as blocks

pytestmark = pytest.mark.core


def test_blocks_are_those_of_configuration_d():
    shapes = blocks.tensor_shapes()
    assert len(shapes) == 26
    assert shapes["features.0.weight"] == (64, 3, 3, 3)
    assert shapes["features.28.weight"] == (512, 512, 3, 3)
    assert sum(block.channels for block in blocks.BLOCKS) == 1472


@pytest.mark.parametrize(
    ("text", "numbers"), [("3-5", (3, 4, 5)), ("1,4", (1, 4)), ("5,1-2", (1, 2, 5)), ((5, 3), (3, 5)), ("2", (2,))]
)
def test_block_numbers_are_parsed(text, numbers):
    assert blocks.parse_blocks(text) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [("7", "must be 1 to 5, got 7"), ("0-2", "got 0"), ("1-9999999999", "got 9999999999"),
     ("x", "must be like 3-5 or 1,4, got 'x'"),
     ("1,x", "got '1,x'"), ("5-3", "must be like 3-5 or 1,4, got '5-3'"),
     ("1-", "must be like 3-5 or 1,4, got '1-'"), ((), r"must be like 3-5 or 1,4, got \(\)")],
)  # fmt: skip
def test_invalid_block_numbers_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        blocks.parse_blocks(text)


@pytest.mark.parametrize(
    ("columns", "widths"),
    [
        (1280, (256, 512, 512)),
        (640, (128, 512)),
        (1472, (64, 128, 256, 512, 512)),
        (2560, (256, 256, 512, 512, 512, 512)),
        (100, (100,)),
        (64 * 24, (256, 256, 512, 512)),
    ],
)
def test_block_widths_follow_from_the_number_of_columns(columns, widths):
    assert blocks.block_widths(columns) == widths


def test_flops_of_each_block():
    flops = blocks.backbone_flops(224)
    assert flops[5] == pytest.approx(30.7e9, rel=0.01)
    assert [round(100 * value / flops[5], 1) for value in flops.values()] == [12.6, 30.7, 60.8, 91.0, 100.0]


def test_widths_of_flat_and_average_features():
    assert blocks.feature_width(5, "flat", 224) == 25088
    assert blocks.feature_width(1, "avg", 224) == 64
