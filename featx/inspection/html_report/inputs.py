"""Find the store, the model and the logs that a report is about, and check the options."""

from collections.abc import Sequence
from pathlib import Path

from featx.drawing import SERIES
from featx.errors import DataError, FeatxError, FileUnreadable, ListingError, ModelError, SpecError
from featx.finetuning import read_logs
from featx.heads import fingerprint
from featx.inspection.html_report.context import ReportContext
from featx.models import Model, load_model
from featx.runtime import Compute
from featx.store import Store, is_store

MAX_LOGS = len(SERIES)
"""Largest number of curves. There are no more colors to tell them apart."""


def open_context(
    path: str | Path,
    *,
    store: str | Path | None = None,
    root: str | Path | None = None,
    finetune: Sequence[str | Path] = (),
    split_column: str | None = None,
    compute: Compute | None = None,
) -> ReportContext:
    """Open a model or a store for a report. `featx.report` describes the parameters and errors."""
    path = Path(path)
    if not path.exists():
        raise ModelError(
            f"MODEL_OR_STORE of report must be a store or a model, but {path} does not exist; make them with: "
            "featx extract IMAGES --output photos.h5, and featx fit photos.h5 --output photos.featx"
        )
    model = None if is_store(path) else load_model(path)
    if model is not None and "search" not in model.info:
        raise ModelError(
            f"MODEL_OR_STORE of report must be a model that featx fit selected by cross-validation, but {path} was "
            "fitted with --stream; give its store instead, or fit it without --stream"
        )
    if store and model is None:
        raise SpecError(f"--store of report is for a model, but {path} is a store itself; leave it out")
    chosen = path if model is None else Path(store) if store else find_store(model, path)
    logs = tuple(map(Path, finetune)) or _logs_beside(path)
    context = ReportContext(
        chosen, model, None if root is None else Path(root), logs, split_column, compute or Compute()
    )
    _check_column(context)
    _check_root(context)
    _check_logs(context)
    return context


def find_store(model: Model, path: Path) -> Path:
    """Find the store that a model was fitted on, beside the model or in the working folder.

    Stores are compared with the model by their content. If several stores match, the one with the name of the model is
    taken, or else the first in alphabetical order.

    Raises
    ------
    ModelError
        If no store matches.
    """
    unreadable = ""
    for folder in dict.fromkeys((path.parent, Path())):
        for candidate in sorted(folder.glob("*.h5"), key=lambda file: (file.stem != path.stem, file.name)):
            try:
                if is_store(candidate) and _was_fitted_on(model, candidate):
                    return candidate
            except FileUnreadable as error:
                unreadable = unreadable or f"; {error}"
    raise ModelError(
        f"--store of report must be given: no .h5 file beside {path} or in the working folder has the images, classes, "
        f"features and columns that the model was fitted on{unreadable}"
    )


def _was_fitted_on(model: Model, path: Path) -> bool:
    """Tell whether the store has the model's images, augmented copies, classes, features and columns.

    ``FileUnreadable`` is raised if the store cannot be read now.
    """
    info = model.info
    columns = {info["selection"].get("column"), info.get("sample_weight", "given")} - {None, "given"}
    try:
        with Store(path) as store:
            store.check_compatible(model.spec, "the model")
            # Models of older versions do not record the number of rows of their store.
            return bool(
                info.get("store_rows", store.n_rows) == store.n_rows
                and info["store"] == fingerprint(store.digests[:: store.spec.n_views])
                and {*model.classes} <= {*store.classes}
                and columns <= store.columns.keys()
            )
    except FileUnreadable:
        raise
    except FeatxError:
        return False


def _logs_beside(path: Path) -> tuple[Path, ...]:
    folder = path.with_name(path.name + ".finetune")
    return (folder,) if (folder / "log.jsonl").is_file() else ()


def _check_column(context: ReportContext) -> None:
    if context.split_column and context.fitted_here:
        raise SpecError(
            "--split-column of report is for a store without a model: the report of a model uses the training images "
            f"that the model was fitted on, in {context.store}; leave it out"
        )
    column = context.selection.get("split_column")
    with Store(context.store) as store:
        columns = store.columns
    if column is not None and column not in columns:
        known = ", ".join(columns) or "none; extract a manifest with a split column"
        of_model = context.model and context.fitted_here
        whose = f"the split column of {context.model.path}" if of_model else "--split-column of report"  # type: ignore[union-attr]
        raise DataError(f"{whose} must be a column of {context.store} ({known}), got {column}")


def _check_root(context: ReportContext) -> None:
    if context.root and not any((context.root / image).is_file() for image in context.images.paths):
        raise ListingError(
            f"--root of report must be the folder that the paths of {context.store} are relative to, such as "
            f"{context.images.paths[0]}; {context.root} contains none of them"
        )


def _check_logs(context: ReportContext) -> None:
    if len(context.logs) > MAX_LOGS:
        raise SpecError(
            f"--finetune of report must be given {MAX_LOGS} times at most, because more curves cannot be told apart, "
            f"got {len(context.logs)}"
        )
    read_logs(context.logs)
