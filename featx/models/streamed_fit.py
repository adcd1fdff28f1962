"""Softmax on rows that do not fit in memory: block by block from disk, as many passes as L-BFGS takes.

The rows are normalized once, into a scratch file, which each pass reads; the system keeps of it in memory what it has
room for. The first steps are made on a sample of the rows in memory, so that few passes are over all of them.
"""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from featx.backbones import WhichBlocks, WhichPools
from featx.errors import DataError, StoreError
from featx.files import wrap_os_error
from featx.heads import MAX_ITER, fingerprint, from_linear_parts, make_head
from featx.models.fit_options import FitOptions, Validation, changed_options
from featx.models.saved_model import Model
from featx.models.training_rows import DECIDING_PACKAGES, choose_rows, describe_store, images_of, targets_of
from featx.runtime import Compute, installed, pluralize
from featx.spec import ExtractSpec
from featx.store import BLOCK_BYTES, Store

SAMPLE_CELLS = 1 << 26
"""The sample has at most so many values: 0.25 GB."""
NOT_STREAMED = (
    "nested", "class_weight", "sample_weight", "weight_column", "scoring", "select", "folds", "repeats",
)  # fmt: skip
"""Options of `featx.fit` that need the search, or all rows in memory."""
TOLERANCE = 1e-4
"""On the largest slope of the mean loss, scikit-learn's own."""
Blocks = Callable[[], Iterator[tuple[NDArray[np.float32], NDArray[np.intp]]]]


def check_streamed(head: str, C: float | None, options: FitOptions, validation: Validation, compute: Compute) -> float:
    """Return C; ``DataError`` if the arguments of `featx.fit` do not allow streaming."""
    if head != "softmax" or C is None:
        raise DataError(f"--stream of fit needs a given head and --C, because it does not search: give --head softmax "
                        f"--C 1, got --head {head}{' without --C' if C is None else ''}")  # fmt: skip
    changed = {**changed_options(options), **changed_options(validation)}
    given = [f"--{name.replace('_', '-')}" for name in NOT_STREAMED if name in changed]
    given += ["--jobs"] * (compute.workers not in (None, 1)) + ["--executor"] * (compute.executor != "local")
    if given:
        raise DataError(f"--stream of fit cannot be combined with {given[0]}; leave one out")
    return C


def fit_streamed(
    path: Path,
    output: str | Path | None,
    blocks: WhichBlocks | None,
    pools: WhichPools | None,
    C: float,
    options: FitOptions,
    validation: Validation,
) -> Model:
    """Fit ``softmax`` on a store that is read in blocks; see `featx.fit`."""
    with Store(path) as store:
        digests = store.digests
        rows, selection = choose_rows(
            store, digests, validation.split_column, validation.test_size, validation.random_state
        )
        y, classes = targets_of(store, rows)
        if y.ndim == 2 or len(classes) < 2:
            found = "is multi-label" if y.ndim == 2 else f"has {pluralize(len(classes), 'class', 'classes')}"
            raise DataError(f"--stream of fit takes one label per image and at least two classes, but {path} {found}")
        spec, images = store.spec.plain.select(blocks, pools), fingerprint(digests[:: store.spec.n_views])
        fitted = images_of(digests, rows)
        # A store of millions of rows has gigabytes of them.
        del digests
        codes = np.searchsorted(np.array(classes), y)
        scratch = (path if output is None else Path(output)).resolve().parent
        pipeline, passes = fit_softmax(
            store, spec, rows, codes, classes, C=C, normalize=options.normalize, scratch=scratch
        )
        facts, golden = describe_store(store, spec)
    info = {"C": C, "rows": len(rows), "streamed": {"passes": passes}, "selection": selection, "store": images,
            "versions": installed(*DECIDING_PACKAGES), **facts}  # fmt: skip
    return Model(spec, classes, "softmax", pipeline, golden, info, fitted=fitted)


def fit_softmax(
    store: Store, spec: ExtractSpec, rows: NDArray[np.intp], codes: NDArray[np.intp], classes: tuple[str, ...],
    *, C: float, normalize: str, scratch: Path,
) -> tuple[Pipeline, int]:  # fmt: skip
    """The pipeline that scikit-learn would fit on those rows of a store, to its tolerance, and the passes it took.

    Parameters
    ----------
    store, spec
        An open store, and which of its features.
    rows : int array (n,)
        Sorted.
    codes : int array (n,)
        Index into ``classes`` of each row.
    C, normalize
        As in `featx.heads.make_head`.
    scratch : Path
        A folder whose disk has room for the rows: 4 bytes a value.

    Raises
    ------
    StoreError
        If the store is damaged, or the disk has not the room.
    DataError
        If a feature is not finite, or L-BFGS does not converge.
    """
    normalizer = _fit_normalizer(store, spec, rows, normalize)
    stride = max(1, -(-len(rows) * spec.width // SAMPLE_CELLS))
    with wrap_os_error(scratch, StoreError), tempfile.TemporaryFile(dir=scratch) as file:
        sample = np.empty((-(-len(rows) // stride), spec.width), np.float32)
        done = 0
        for values in _feature_blocks(store, spec, rows):
            if not np.isfinite(values).all():
                raise DataError(f"features of {store.path} must be finite to fit on, but some are NaN or infinite")
            values = values if isinstance(normalizer, str) else normalizer.transform(values)
            # Not tofile: of a full disk it says only how many values were written.
            file.write(np.ascontiguousarray(values, np.float32).data)
            first = -done % stride
            sample[(done + first) // stride :][: len(values[first::stride])] = values[first::stride]
            done += len(values)
        strength = 1 / (C * len(rows))
        start, _ = _descend(lambda: iter([(sample, codes[::stride])]), len(classes), spec.width, strength)
        W, passes = _descend(_reader(file, codes, spec.width), len(classes), spec.width, strength, start)
    linear = W[:, :-1].astype(np.float32), W[:, -1].astype(np.float32)
    return from_linear_parts("softmax", *linear, np.array(classes), normalizer, C=C), passes


def _fit_normalizer(store: Store, spec: ExtractSpec, rows: NDArray[np.intp], normalize: str) -> BaseEstimator | str:
    normalizer = make_head("softmax", normalize=normalize, widths=tuple(spec.widths.values())).named_steps["normalizer"]
    if normalize == "power":
        return normalizer.fit(store.read(spec.widths, rows[:1]))
    if normalize == "standard":
        for values in _feature_blocks(store, spec, rows):
            normalizer.partial_fit(values)
    return normalizer


def _feature_blocks(store: Store, spec: ExtractSpec, rows: NDArray[np.intp]) -> Iterator[NDArray[np.float32]]:
    for first in range(0, len(rows), _block_rows(spec.width)):
        yield store.read(spec.widths, rows[first : first + _block_rows(spec.width)])


def _reader(file: IO[bytes], codes: NDArray[np.intp], width: int) -> Blocks:
    buffer = np.empty((_block_rows(width), width), np.float32)

    def read() -> Iterator[tuple[NDArray[np.float32], NDArray[np.intp]]]:
        file.seek(0)
        for first in range(0, len(codes), len(buffer)):
            of = codes[first : first + len(buffer)]
            file.readinto(buffer[: len(of)].data.cast("B"))  # type: ignore[attr-defined]
            yield buffer[: len(of)], of

    return read


def _block_rows(width: int) -> int:
    return max(1, BLOCK_BYTES // (4 * width))


def _descend(
    blocks: Blocks, classes: int, width: int, strength: float, start: NDArray[np.float64] | None = None
) -> tuple[NDArray[np.float64], int]:
    """Weights with intercepts, (classes, width + 1), or of one row for two classes, and how many passes they took."""
    shape = (1 if classes == 2 else classes, width + 1)
    found = minimize(
        lambda flat: _objective(flat.reshape(shape), blocks, strength),
        np.zeros(shape).ravel() if start is None else start.ravel(),
        method="L-BFGS-B",
        jac=True,
        options={"maxiter": MAX_ITER, "maxfun": 2 * MAX_ITER, "maxls": 50, "gtol": TOLERANCE,
                 "ftol": 64 * np.finfo(float).eps},
    )  # fmt: skip
    if not found.success:
        raise DataError(f"softmax did not converge in {found.nfev} passes ({found.message}); give a smaller --C")
    return found.x.reshape(shape), int(found.nfev)


def _objective(W: NDArray[np.float64], blocks: Blocks, strength: float) -> tuple[float, NDArray[np.float64]]:
    """Mean loss and penalty, and their slopes, flat."""
    weights, bias = W[:, :-1].astype(np.float32), W[:, -1].astype(np.float32)
    loss, count, slopes = 0.0, 0, np.zeros_like(W)
    for X, codes in blocks():
        losses, errors = (_binary if len(W) == 1 else _softmax)(X @ weights.T + bias, codes)
        loss += float(losses.sum(dtype=np.float64))
        slopes[:, :-1] += errors.T @ X
        slopes[:, -1] += errors.sum(axis=0, dtype=np.float64)
        count += len(X)
    slopes /= count
    slopes[:, :-1] += strength * W[:, :-1]
    return loss / count + strength / 2 * float((W[:, :-1] ** 2).sum()), slopes.ravel()


def _softmax(Z: NDArray[Any], codes: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Losses (n,), and their slopes by the decisions Z (n, classes), which this overwrites."""
    Z -= Z.max(axis=1, keepdims=True)
    own = np.take_along_axis(Z, codes[:, np.newaxis], axis=1)[:, 0]
    np.exp(Z, out=Z)
    total = Z.sum(axis=1)
    Z /= total[:, np.newaxis]
    Z[np.arange(len(Z)), codes] -= 1
    return np.log(total) - own, Z


def _binary(Z: NDArray[Any], codes: NDArray[np.intp]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same for two classes, decisions (n, 1)."""
    z = np.where(codes == 1, -Z[:, 0], Z[:, 0])
    wrong = np.exp(-np.logaddexp(0, -z))
    return np.logaddexp(0, z), np.where(codes == 1, -wrong, wrong)[:, np.newaxis]
