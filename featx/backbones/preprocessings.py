"""How each network expects its input: RGB values of 0 to 255, minus a mean, divided by a standard deviation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Preprocessing:
    """What a backbone expects of its input: RGB values of 0 to 255, less ``mean``, divided by ``std``."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


PREPROCESSINGS = {
    "oxford": Preprocessing((123.68, 116.779, 103.939), (1.0, 1.0, 1.0)),
    "imagenet1k_v1": Preprocessing((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)),
    "imagenet1k_features": Preprocessing((0.48235 * 255, 0.45882 * 255, 0.40784 * 255), (1.0, 1.0, 1.0)),
    "zero_to_one": Preprocessing((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "minus_one_to_one": Preprocessing((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
}
"""The last two are those of no backbone by name, but of many a network trained elsewhere, and a common mistake."""
