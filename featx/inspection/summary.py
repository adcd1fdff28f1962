"""Describe what a store or a model file contains."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from featx.images import count_remarks
from featx.models import load_model
from featx.store import Store, is_store


def describe(path: str | Path) -> dict[str, Any]:
    """Return the facts that ``featx info`` prints, as values that JSON can hold.

    ``kind`` is ``"store"`` or ``"model"``. Both kinds have ``classes``, ``features`` (columns by name), ``spec`` and
    ``bytes``.

    Raises
    ------
    StoreError, ModelError
        If the file is neither a store nor a model, or is damaged.
    """
    facts = _describe_store(Path(path)) if is_store(path) else _describe_model(Path(path))
    return {**facts, "bytes": Path(path).stat().st_size}


def _describe_store(path: Path) -> dict[str, Any]:
    with Store(path) as store:
        views = store.spec.n_views
        labels, classes, targets = store.labels[::views], store.classes, store.multilabel_targets
        targets = None if targets is None else targets[::views]
        counts = np.bincount(labels[labels >= 0], minlength=len(classes)) if targets is None else targets.sum(axis=0)
        splits = {name: values[::views] for name, values in store.columns.items() if name.startswith("split")}
        return {
            "kind": "store",
            "featx": store.version,
            "rows": store.n_rows,
            "images": store.n_rows // views,
            "classes": dict(zip(classes, counts.tolist(), strict=True)),
            "unlabeled": int((labels < 0).sum()),
            **({} if targets is None else {"with several labels": int((targets.sum(axis=1) > 1).sum())}),
            "rotated by EXIF": int(store.exif_rotated[::views].sum()),
            **_remarks(store),
            **({"groups": len({*store.columns["group"]} - {""})} if "group" in store.columns else {}),
            "splits": {name: dict(Counter(values)) for name, values in splits.items()},
            **({"listing": store.listing} if store.listing else {}),
            "failures": [f"{path}: {reason}" for path, reason in store.failures],
            "features": store.spec.widths,
            "dtype": store.dtype,
            **_assembly(store),
            "versions": store.versions,
            "spec": dataclasses.asdict(store.spec),
        }


def _remarks(store: Store) -> dict[str, dict[str, int]]:
    """Count the images whose pixels need a remark. The dict is empty if there are none."""
    counts = count_remarks(store.remarks[:: store.spec.n_views])
    return {"remarks": counts} if counts else {}


def _assembly(store: Store) -> dict[str, str]:
    """Say which part files a virtual store needs. The dict is empty for a store that holds its features itself."""
    if not store.parts:
        return {}
    size = sum(path.stat().st_size for path in store.parts)
    return {"assembly": f"virtual: features are in {len(store.parts)} part files, {size:,} bytes, in the folder "
            f"{store.parts[0].parent.name}; keep it beside the store"}  # fmt: skip


def _describe_model(path: Path) -> dict[str, Any]:
    model = load_model(path)
    return {
        "kind": "model",
        "head": model.head,
        "classes": list(model.classes),
        **({"fitted_on": model.training_summary} if "rows" in model.info else {}),
        "features": model.spec.widths,
        "spec": dataclasses.asdict(model.spec),
        **model.info,
    }
