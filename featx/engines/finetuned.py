"""Save and load the weights of a fine-tuned backbone, in a file beside the model file."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import save_file

from featx.backbones import BACKBONES, BackboneWeights, backbone_digest, load_backbone, read_weights
from featx.errors import WeightsError, WeightsNotFound
from featx.files import atomic_write
from featx.spec import ExtractSpec

SUFFIX = ".backbone.safetensors"


def finetuned_path(model: str | Path) -> Path:
    """Return the path of a model's backbone, such as ``photos.backbone.safetensors`` for ``photos.featx``."""
    path = Path(model)
    # Only the suffix .featx is removed, because the models tuned-0.95 and tuned-0.98 have different backbones.
    return path.with_name(path.name.removesuffix(".featx") + SUFFIX)


def save_finetuned(weights: BackboneWeights, model: str | Path) -> Path:
    """Write a backbone beside the file of its model; an earlier backbone is replaced.

    No model can use a wrong backbone by mistake, because each model stores the digest of its own backbone.

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    WeightsError
        If the file cannot be written.
    """
    path = finetuned_path(model)
    try:
        with atomic_write(path) as temporary:
            # No metadata: safetensors writes its entries in random order, and equal backbones must have equal bytes.
            save_file(weights.tensors, temporary)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be written: {error}") from error
    return path


def load_backbone_for(
    spec: ExtractSpec, file: str | Path | None = None, model: str | Path | None = None
) -> BackboneWeights:
    """Load the backbone that a model's spec asks for.

    Parameters
    ----------
    spec : ExtractSpec
        The model's spec.
    file : path, optional
        Read the weights from this file only.
    model : path, optional
        The model's file. If featx does not know the backbone by name, it looks for the backbone beside this file.

    Raises
    ------
    SpecMismatch
        If the weights are not those of the spec.
    WeightsNotFound, WeightsMismatch, WeightsError
        As in `featx.backbones.load_backbone`.
    """
    if file is None and model is not None and spec.backbone not in BACKBONES:
        found = _read_beside(spec, Path(model))
        if found:
            return found
    backbone = _load(spec, file, model)
    spec.check_same(
        spec.with_backbone(backbone.name, backbone.digest, backbone.preprocessing),
        this="the model",
        that=f"the weights from {backbone.source}",
        remedy="give the weights that it was fitted with, by --weights",
    )
    return backbone


def _read_beside(spec: ExtractSpec, model: Path) -> BackboneWeights | None:
    """Read the weights beside a model's file, if they have the spec's digest."""
    path = finetuned_path(model)
    if not path.is_file():
        return None
    tensors = read_weights(path)
    if backbone_digest(tensors) != spec.backbone_digest:
        return None
    return BackboneWeights(spec.backbone, spec.backbone_digest, spec.preprocessing, str(path), tensors)


def _load(spec: ExtractSpec, file: str | Path | None, model: str | Path | None) -> BackboneWeights:
    # A file does not say how its backbone's input is preprocessed, but the spec does.
    preprocessing = None if file is None else spec.preprocessing
    try:
        return load_backbone(spec.backbone, file, preprocessing)
    except WeightsNotFound as error:
        if model is None or spec.backbone in BACKBONES:
            raise
        raise WeightsNotFound(
            f"the backbone {spec.backbone} of {model} must be in {finetuned_path(model)} (digest "
            f"{spec.backbone_digest}) or be given by --weights, got neither; {error}"
        ) from None
