"""A fine-tuned backbone's weights: known to no source, they lie beside the model that needs them."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import save_file

from featx.backbones import BACKBONES, BackboneWeights, backbone_digest, load_backbone, read_weights
from featx.errors import WeightsError, WeightsNotFound
from featx.files import atomic_write
from featx.spec import ExtractSpec

SUFFIX = ".backbone.safetensors"


def finetuned_path(model: str | Path) -> Path:
    """Where the backbone of a model's file lies, if anywhere: ``photos.backbone.safetensors`` for ``photos.featx``."""
    path = Path(model)
    # Any other suffix stays, as of tuned-0.95 and tuned-0.98, whose backbones are two.
    return path.with_name(path.name.removesuffix(".featx") + SUFFIX)


def save_finetuned(weights: BackboneWeights, model: str | Path) -> Path:
    """Write a backbone beside a model's file, whole or not at all, and say where.

    What lies there is replaced: a model that needs it is known by the digest.

    Raises
    ------
    WeightsError
        If it cannot be written.
    """
    path = finetuned_path(model)
    try:
        with atomic_write(path) as temporary:
            # No metadata: safetensors writes several entries in any order, and equal backbones shall have equal bytes.
            save_file(weights.tensors, temporary)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be written: {error}") from error
    return path


def load_backbone_for(
    spec: ExtractSpec, file: str | Path | None = None, model: str | Path | None = None
) -> BackboneWeights:
    """The backbone that a model's spec asks for.

    Parameters
    ----------
    spec : ExtractSpec
        The model's.
    file : path, optional
        A weights file to take instead of all else.
    model : path, optional
        The model's file: a backbone that is none of ``BACKBONES`` is looked for beside it, and known by its digest.

    Raises
    ------
    SpecMismatch
        If the weights are not those of the spec.
    WeightsNotFound, WeightsMismatch, WeightsError
        As `load_backbone`.
    """
    if (
        file is None
        and model is not None
        and spec.backbone not in BACKBONES
        and (found := _find_beside(spec, Path(model)))
    ):
        return found
    backbone = _load(spec, file, model)
    spec.check_same(
        spec.with_backbone(backbone.name, backbone.digest, backbone.preprocessing),
        this="the model",
        that=f"the weights from {backbone.source}",
        remedy="give the weights that it was fitted with, by --weights",
    )
    return backbone


def _find_beside(spec: ExtractSpec, model: Path) -> BackboneWeights | None:
    path = finetuned_path(model)
    if not path.is_file():
        return None
    tensors = read_weights(path)
    if backbone_digest(tensors) != spec.backbone_digest:
        return None
    return BackboneWeights(spec.backbone, spec.backbone_digest, spec.preprocessing, str(path), tensors)


def _load(spec: ExtractSpec, file: str | Path | None, model: str | Path | None) -> BackboneWeights:
    # A file does not say how its backbone's input is prepared; the spec does.
    preprocessing = None if file is None else spec.preprocessing
    try:
        return load_backbone(spec.backbone, file, preprocessing)
    except WeightsNotFound as error:
        if model is None or spec.backbone in BACKBONES:
            raise
        raise WeightsNotFound(
            f"the backbone {spec.backbone} of {model} must be {finetuned_path(model)} (digest {spec.backbone_digest}) or be given by "
            f"--weights, got neither; {error}"
        ) from None
