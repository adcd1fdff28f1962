import pytest

import featx
from featx.errors import SpecError
from featx.runtime import Compute


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"engine": "ray+ncnn"}, "engine of Compute must be one of auto, torch, openvino, ncnn, got 'ray\\+ncnn'"),
        ({"executor": "dask"}, "executor of Compute must be one of local, ray, got 'dask'"),
        ({"batch_size": 0}, "batch_size of Compute must be a whole number of at least 1, got 0"),
        ({"workers": True}, "workers of Compute must be a whole number of at least 1, got True"),
        ({"max_pixels": 1e6}, "max_pixels of Compute must be a whole number of at least 1, got 1000000.0"),
        ({"executor": "ray", "cpus_per_worker": "2"}, "cpus_per_worker of Compute must be a whole number"),
        ({"executor": "ray", "gpus_per_worker": -0.5}, "gpus_per_worker of Compute must be at least 0, got -0.5"),
        ({"ray_address": "auto"}, "ray_address of Compute is for executor ray, got executor local; leave it out"),
    ],
)
def test_a_value_out_of_range_is_named(values, message):
    with pytest.raises(SpecError, match=message):
        Compute(**values)


def test_the_repr_shows_what_differs_from_the_defaults():
    assert repr(Compute()) == "Compute()"
    assert repr(Compute(engine="ncnn", workers=8)) == "Compute(engine='ncnn', workers=8)"


def test_compute_is_public():
    assert featx.Compute is Compute
