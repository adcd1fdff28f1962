"""Fit a linear head on a store. Cross-validation chooses head, blocks and C, if they are not given."""

from pathlib import Path

from featx.backbones import WhichBlocks, WhichPools
from featx.errors import DataError, ModelError, SpecError
from featx.files import check_folder
from featx.heads import HEADS
from featx.models.fit_options import FitOptions, Validation
from featx.models.saved_model import Model
from featx.models.searched_fit import fit_searched
from featx.models.streamed_fit import check_streamed, fit_streamed
from featx.runtime import Compute

MAX_C = 1e12
"""Largest C. Above it, the penalty is smaller than rounding errors, and the duality gap of a fit is not finite."""


def fit(
    store: str | Path,
    output: str | Path | None = None,
    *,
    head: str = "best",
    blocks: WhichBlocks | None = None,
    pools: WhichPools | None = None,
    C: float | None = None,
    options: FitOptions | None = None,
    validation: Validation | None = None,
    compute: Compute | None = None,
    overwrite: bool = False,
) -> Model:
    """Fit a linear head on the features of a store.

    Cross-validation chooses head, blocks and C unless they are given. Folds are stratified by class and keep groups
    together. A group contains files of equal bytes, and images with equal values in the column ``group`` of the store.
    scikit-learn then fits the chosen head on all training rows. If the store has augmented copies, all copies of the
    training images are fitted, and only the plain images are scored.

    A class with fewer images or groups than folds is tested only in some folds, and a class with one image or group is
    never tested. A `featx.errors.FeatxWarning` names such classes, and ``Model.info`` keeps them. If no class can be
    tested, you must give head and C, and there is no estimate of accuracy.

    Parameters
    ----------
    store : path
        A store with labels.
    output : path, optional
        File to save the model in, such as ``photos.featx``.
    head : {"best", "linear-svc", "softmax", "ovr-logistic"}
        Linear head. ``best`` chooses among the three others. ``softmax`` is not available for multi-label stores.
    blocks : sequence of int, int or str, optional
        Blocks to use, such as ``(3, 4)`` or ``"3-4"``. By default, the best range of consecutive blocks is used.
    pools : sequence of str, optional
        Poolings to use. By default, all poolings of the store are used.
    C : float, optional
        Inverse strength of the L2 penalty. By default, the best value of a grid is used.
    options : FitOptions, optional
        Normalization, weights, calibration and streaming.
    validation : Validation, optional
        Training rows and cross-validation.
    compute : Compute, optional
        ``workers`` is the number of processes for the fits of scikit-learn and for nested cross-validation. With
        ``executor="ray"``, these processes run on a Ray cluster, by default on all its CPUs. The place where the
        processes run does not change the model.
    overwrite : bool
        Replace an existing model.

    Returns
    -------
    Model
        Its ``info`` holds C, the scores of all candidates, the training rows and the versions of numpy and
        scikit-learn.

    Raises
    ------
    StoreError, SpecError
        If the store cannot be read, if it lacks a block or pooling, or if C is out of range.
    DataError
        If there are no labels or fewer than two classes, or if head and C must be chosen although every class has one
        image or group.
    ModelError
        If the output exists already, or cannot be written.
    EngineError
        If a worker process is killed, or if Ray cannot be reached.
    """
    options, validation, compute = options or FitOptions(), validation or Validation(), compute or Compute()
    compute.check_unused("fit", "shard")
    _check_head(head, C, options)
    _check_output(output, overwrite)
    if options.stream:
        C = check_streamed(head, C, options, validation, compute)
        model = fit_streamed(Path(store), output, blocks, pools, C, options, validation)
    else:
        model = fit_searched(Path(store), head, blocks, pools, C, options, validation, compute)
    if output is not None:
        model.save(output, overwrite=overwrite)
    return model


def _check_head(head: str, C: float | None, options: FitOptions) -> None:
    if C is not None and not 0 < C <= MAX_C:
        raise SpecError(f"--C of fit must be above 0 and at most {MAX_C:g}, got {C:g}")
    if head != "best" and head not in HEADS:
        raise DataError(f"--head of fit must be best or one of {', '.join(HEADS)}, got {head!r}")
    if options.calibrate and head not in ("best", "linear-svc"):
        raise DataError(f"--calibrate of fit is for linear-svc; {head} has probabilities without it: leave it out")


def _check_output(output: str | Path | None, overwrite: bool) -> None:
    """Raise ``ModelError`` if the output cannot be written. This is checked before the search, which may take long."""
    if output is None:
        return
    check_folder(Path(output), ModelError)
    if Path(output).exists() and not overwrite:
        raise ModelError(f"{output} exists already; choose another --output, or replace it with --overwrite")
