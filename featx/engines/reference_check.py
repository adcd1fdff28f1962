"""Compare features of the reference images, to check that two machines or versions compute the same features."""

from collections.abc import Mapping

import numpy as np

from featx.engines.selection import Engine
from featx.errors import SpecMismatch
from featx.images import draw_reference_images, preprocess
from featx.spec import ExtractSpec


def reference_pixels(spec: ExtractSpec) -> np.ndarray:
    """Return the three reference images as the engine takes them, as uint8 (3, size, size, 3)."""
    return np.stack([preprocess(image, spec) for image in draw_reference_images()])


def compute_reference_features(engine: Engine) -> dict[str, np.ndarray]:
    """Compute the features of the three reference images, by name. Each feature is float32 (3, width)."""
    return engine(reference_pixels(engine.spec))


def relative_errors(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return ``|values - reference| / |reference|`` for each row of two arrays (n, width)."""
    norms = np.linalg.norm(reference, axis=1)
    errors: np.ndarray = np.linalg.norm(values - reference, axis=1) / np.maximum(norms, 1e-12)
    return errors


def relative_error(values: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest of `relative_errors`."""
    return float(relative_errors(values, reference).max())


def check_reference_features(
    engine: Engine,
    stored: Mapping[str, np.ndarray],
    owner: str,
    remedy: str = "extract again with --overwrite",
) -> None:
    """Check that an engine computes the same features as another machine or another version of the packages did.

    Parameters
    ----------
    engine : Engine
        The engine that computes the features of the reference images again.
    stored : mapping of str to float32 array (3, width)
        The features of the reference images, by name, as the other machine computed them.
    owner : str
        The file or folder that holds ``stored``. The error message names it.
    remedy : str
        What the user can do. The error message contains it.

    Raises
    ------
    SpecMismatch
        If a feature differs by more than the tolerance of the spec's precision class.
    """
    for name, values in compute_reference_features(engine).items():
        error = relative_error(values, stored[name])
        if not error <= engine.spec.tolerance:
            raise SpecMismatch(
                f"{name} of the reference images differs by {error:.2g} from that in {owner}, and "
                f"{engine.spec.precision} allows {engine.spec.tolerance:.2g}: this machine or its package versions "
                f"compute other features; {remedy}, or use the machine and versions that made it"
            )
