"""Golden rows: features of three drawn images, by which two machines or versions show that they agree."""

from collections.abc import Mapping

import numpy as np

from featx.engines.selection import Engine
from featx.errors import SpecMismatch
from featx.images import draw_reference_images, preprocess
from featx.spec import ExtractSpec


def golden_pixels(spec: ExtractSpec) -> np.ndarray:
    """The three drawn images as the backbone sees them, uint8 (3, size, size, 3)."""
    return np.stack([preprocess(image, spec) for image in draw_reference_images()])


def compute_golden(engine: Engine) -> dict[str, np.ndarray]:
    """Features of the three drawn images, float32 (3, width) by name."""
    return engine(golden_pixels(engine.spec))


def relative_errors(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """|a - b| / |b| of each row of two (n, width) arrays."""
    norms = np.linalg.norm(reference, axis=1)
    errors: np.ndarray = np.linalg.norm(values - reference, axis=1) / np.maximum(norms, 1e-12)
    return errors


def relative_error(values: np.ndarray, reference: np.ndarray) -> float:
    """The largest |a - b| / |b| over the rows of two (n, width) arrays."""
    return float(relative_errors(values, reference).max())


def check_golden(
    engine: Engine, stored: Mapping[str, np.ndarray], whose: str, remedy: str = "extract anew with --overwrite"
) -> None:
    """Compute the engine's golden features again and raise ``SpecMismatch`` if they are not those stored."""
    computed = compute_golden(engine)
    for name, values in computed.items():
        error = relative_error(values, stored[name])
        if not error <= engine.spec.tolerance:
            raise SpecMismatch(
                f"{name} of the golden images is {error:.2g} away from that in {whose}, where {engine.spec.precision} "
                f"allows {engine.spec.tolerance:.2g}: this machine or version computes other features; "
                f"{remedy}, or use the machine and versions that made it"
            )
