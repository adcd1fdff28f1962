"""Read and write model files.

A ``.featx`` file is a safetensors file. It holds arrays, and its metadata holds one JSON text under the key ``featx``.
Opening the file runs no code. Its last 32 bytes, the tensor ``sha256``, are the digest of all bytes before them, so
featx notices any changed byte.

Schema 1 has ``weight``, ``bias``, the arrays of a normalizer, ``golden.<name>`` (the reference features) and optionally
``fitted`` (the identifiers of the training images). Schema 2 may also have a calibration (``calibration.temperature``),
a hidden layer (``hidden.weight`` and ``hidden.bias``), or a multi-label head (parameter ``multilabel``). A file states
the lowest schema that can hold its model, so that older versions of featx can open all models that they support.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from featx.errors import FeatxError, ModelError
from featx.files import MAX_HEADER, atomic_write, unreadable_error, wrap_os_error
from featx.heads import get_hidden_layer, pack_head, unpack_head
from featx.models.saved_model import Model
from featx.spec import ExtractSpec

SCHEMA = 2
_DIGEST_BYTES = hashlib.sha256().digest_size
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"


def load_model(path: str | Path) -> Model:
    """Read a model that `Model.save` wrote. It gives exactly the same results as the saved model.

    Raises
    ------
    ModelUnreadable
        If the file cannot be read now: another program locks it, access is denied, or its disk fails.
    ModelError
        If the file does not exist, is not a featx model, is truncated or damaged, or if a later version of featx wrote
        it.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            document = _read_document(file, path)
            file.seek(0)
            data = file.read()
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; make it with: featx fit STORE --output {path}") from None
    except FeatxError:
        raise
    except OSError as error:
        raise unreadable_error(path, error, ModelError) or ModelError(
            f"{path} cannot be read: {error.strerror or error}"
        ) from error
    if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
        raise ModelError(
            f"{path} is cut short or has changed bytes: its digest does not match; copy it again, or fit it again"
        )
    try:
        model = _build_model(document, load(data), path)
        _check_answers(model)
    except Exception as error:  # Wrong values in a file can cause any exception.
        raise ModelError(f"{path} is not a model that this featx can use: {error}") from error
    return model


def write_model(model: Model, path: Path, *, overwrite: bool = False) -> None:
    """Write a model to a file in one step. `Model.save` describes the errors."""
    with wrap_os_error(path, ModelError):
        exists = path.exists()
    if exists and not overwrite:
        raise ModelError(f"{path} exists already; choose another --output, or replace it with --overwrite")
    data = _to_bytes(model)
    with atomic_write(path, ModelError) as temporary:
        temporary.write_bytes(data)


def _check_answers(model: Model) -> None:
    """Classify the reference images and their negatives, so that a damaged model fails when it is loaded."""
    rows = np.hstack([model.reference_features[name] for name in model.spec.widths])
    with np.errstate(all="ignore"):
        for X in (rows, -rows):
            model.predict(X)
            if model.has_probabilities:
                model.predict_proba(X)


def _read_document(file: BinaryIO, path: Path) -> dict[str, Any]:
    """Read the JSON in the header without trusting any length that the file states."""
    size = file.seek(0, 2)
    file.seek(0)
    start = file.read(8)
    if start == _HDF5_MAGIC:
        raise ModelError(
            f"{path} is an HDF5 file, perhaps a store, and not a model; featx fit makes a model from a store"
        )
    length = int.from_bytes(start, "little")
    if not 2 <= length <= min(size - 8, MAX_HEADER):
        raise ModelError(f"{path} is not a featx model, or is cut short: its header does not fit in the file")
    try:
        document: dict[str, Any] = json.loads(json.loads(file.read(length))["__metadata__"]["featx"])
        schema = int(document["schema"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        raise ModelError(f"{path} is not a featx model, or is damaged: its header is not one of featx") from None
    if schema > SCHEMA:
        raise ModelError(f"{path} has schema {schema}, this featx reads up to {SCHEMA}; update featx")
    return document


def _to_bytes(model: Model) -> bytes:
    state, arrays = pack_head(model.estimator, model.calibration)
    document = {
        "schema": 2 if model.calibration or model.multilabel or get_hidden_layer(model.estimator) else 1,
        "spec": model.spec.to_json(),
        "classes": list(model.classes),
        "head": model.head,
        **state,
        "info": model.info,
    }
    try:
        text = json.dumps(document, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelError(f"info of the model must be valid JSON: {error}") from None
    tensors = {**arrays, **{f"golden.{name}": values for name, values in model.reference_features.items()}}
    if model.fitted_image_ids is not None:
        tensors["fitted"] = model.fitted_image_ids
    contiguous = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    # safetensors puts the narrowest dtype last. No other tensor is uint8, so the digest is at the end of the file.
    contiguous["sha256"] = np.zeros(_DIGEST_BYTES, np.uint8)
    body = save(contiguous, {"featx": text})[:-_DIGEST_BYTES]
    return body + hashlib.sha256(body).digest()


def _build_model(document: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], path: Path) -> Model:
    classes, head = tuple(document["classes"]), document["head"]
    estimator, calibration = unpack_head(head, classes, document, tensors)
    spec = ExtractSpec.from_json(document["spec"])
    reference = {name: tensors[f"golden.{name}"].copy() for name in spec.widths}
    return Model(spec, classes, head, estimator, reference, document["info"], calibration, tensors.get("fitted"), path)
