"""A fine-tuned trunk's weights: known to no source, they lie beside the model that needs them."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import save_file

from featx.atomic import replacing
from featx.errors import WeightsError, WeightsNotFound
from featx.spec import ExtractSpec
from featx.weights.digest import trunk_digest
from featx.weights.loading import load_trunk
from featx.weights.readers import read_weights
from featx.weights.trunks import TRUNKS, TrunkWeights

SUFFIX = ".trunk.safetensors"


def beside(model: str | Path) -> Path:
    """Where the trunk of a model's file lies, if anywhere: ``photos.trunk.safetensors`` for ``photos.featx``."""
    path = Path(model)
    # Any other suffix stays, as of tuned-0.95 and tuned-0.98, whose trunks are two.
    return path.with_name(path.name.removesuffix(".featx") + SUFFIX)


def save_beside(weights: TrunkWeights, model: str | Path) -> Path:
    """Write a trunk beside a model's file, whole or not at all, and say where.

    What lies there is replaced: a model that needs it is known by the digest.

    Raises
    ------
    WeightsError
        If it cannot be written.
    """
    path = beside(model)
    try:
        with replacing(path) as temporary:
            # No metadata: safetensors writes several entries in any order, and equal trunks shall have equal bytes.
            save_file(weights.tensors, temporary)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be written: {error}") from error
    return path


def load_for(spec: ExtractSpec, file: str | Path | None = None, model: str | Path | None = None) -> TrunkWeights:
    """The trunk that a model's spec asks for.

    Parameters
    ----------
    spec : ExtractSpec
        The model's.
    file : path, optional
        A weights file to take instead of all else.
    model : path, optional
        The model's file: a trunk that is none of ``TRUNKS`` is looked for beside it, and known by its digest.

    Raises
    ------
    SpecMismatch
        If the weights are not those of the spec.
    WeightsNotFound, WeightsMismatch, WeightsError
        As `load_trunk`.
    """
    if file is None and model is not None and spec.trunk not in TRUNKS and (found := _find_beside(spec, Path(model))):
        return found
    trunk = _load(spec, file, model)
    spec.check_same(
        spec.with_trunk(trunk.name, trunk.digest, trunk.preprocessing),
        this="the model",
        that=f"the weights from {trunk.source}",
        remedy="give the weights that it was fitted with, by --weights",
    )
    return trunk


def _find_beside(spec: ExtractSpec, model: Path) -> TrunkWeights | None:
    path = beside(model)
    if not path.is_file():
        return None
    tensors = read_weights(path)
    if trunk_digest(tensors) != spec.trunk_digest:
        return None
    return TrunkWeights(spec.trunk, spec.trunk_digest, spec.preprocessing, str(path), tensors)


def _load(spec: ExtractSpec, file: str | Path | None, model: str | Path | None) -> TrunkWeights:
    # A file does not say how its trunk's input is prepared; the spec does.
    preprocessing = None if file is None else spec.preprocessing
    try:
        return load_trunk(spec.trunk, file, preprocessing)
    except WeightsNotFound as error:
        if model is None or spec.trunk in TRUNKS:
            raise
        raise WeightsNotFound(
            f"the trunk {spec.trunk} of {model} must be {beside(model)} (digest {spec.trunk_digest}) or be given by "
            f"--weights, got neither; {error}"
        ) from None
