import hashlib

import numpy as np
import pytest

from featx.images.pixels.reference_images import draw_reference_images

pytestmark = pytest.mark.core

DIGESTS = [
    (0, (320, 240), "21e4e0266e34e089e14ec554995974f16d40fa0fd65924c63ed0c8d813166b5b"),
    (1, (256, 256), "765969c7470bf6919b258c8083a1a1c452055da82b67d43ba771ce4899608e77"),
    (2, (200, 300), "d99e57a96d8ee3d8f7dfd0c9029684c969dd24d802485fb7e2ef821546d45bc1"),
]


@pytest.mark.parametrize(("number", "size", "digest"), DIGESTS)
def test_reference_images_never_change(number, size, digest):
    image = draw_reference_images()[number]
    assert (image.mode, image.size) == ("RGB", size)
    assert hashlib.sha256(image.tobytes()).hexdigest() == digest


def test_reference_images_have_contrast():
    for image in draw_reference_images():
        assert np.asarray(image).std(axis=(0, 1)).min() > 25
