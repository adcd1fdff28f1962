"""The digest of the real weights, and tensors that are not a backbone."""

import numpy as np
import pytest

from featx.backbones.digest import backbone_digest, check_tensors
from featx.backbones.loading import load_backbone
from featx.backbones.registry import BACKBONES
from featx.backbones.vgg16 import tensor_shapes
from featx.errors import WeightsError

pytestmark = pytest.mark.core

OXFORD = "25d244c5fdb86c278c3442bce00783954c822e6564e34bea523f31bddfdcc4d1"


@pytest.fixture(scope="module")
def oxford():
    return load_backbone().tensors


@pytest.fixture(scope="module")
def zeros():
    return {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes().items()}


def test_the_digest_of_oxford_is_the_published_one(oxford):
    assert backbone_digest(oxford) == OXFORD == BACKBONES["oxford"].digest


def test_the_digest_ignores_order_memory_layout_and_other_names(oxford):
    turned = {name: np.asfortranarray(oxford[name]) for name in reversed(oxford)}
    assert backbone_digest({"classifier.0.weight": np.zeros(3), **turned}) == OXFORD


@pytest.mark.parametrize("name", ["features.0.weight", "features.28.bias"])
def test_one_bit_changes_the_digest(oxford, name):
    changed = oxford[name].copy()
    changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(1))
    assert backbone_digest({**oxford, name: changed}) != OXFORD


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("features.5.bias", None, r"^x\.h5 must have the 13 convolutions of VGG16, but features\.5\.bias is missing$"),
        (
            "features.2.weight",
            np.zeros((64, 64, 5, 5), np.float32),
            r"^features\.2\.weight of x\.h5 must have the shape of VGG16, \(64, 64, 3, 3\), got \(64, 64, 5, 5\)$",
        ),
        ("features.0.bias", np.zeros(64), r"^features\.0\.bias of x\.h5 must be float32, got float64$"),
        (
            "features.7.bias",
            np.array([np.nan, -np.inf, *[0] * 126], np.float32),
            r"^features\.7\.bias of x\.h5 must be finite, got 2 NaN or infinite values of 128$",
        ),
    ],
)
def test_tensors_that_are_not_a_backbone_are_refused(zeros, name, tensor, message):
    tensors = {**zeros, name: tensor} if tensor is not None else {k: v for k, v in zeros.items() if k != name}
    with pytest.raises(WeightsError, match=message):
        check_tensors(tensors, "x.h5")
    with pytest.raises(WeightsError, match="the backbone"):
        backbone_digest(tensors)
