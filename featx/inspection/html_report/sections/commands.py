"""The commands that make the store, the model and the report again."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from featx.backbones import BACKBONES
from featx.engines import finetuned_path
from featx.finetuning import Recipe, recipe
from featx.inspection.html_report.run import Run
from featx.inspection.html_report.section import Section
from featx.models import Model, trained_parts
from featx.spec import ExtractSpec
from featx.store import Store

TITLE = "Do it again"
IMPLIED = ("backbone_digest", "preprocessing", "calibration")
"""Fields of a spec that follow from others and from the images."""
OPTIONS = {"view_seed": "seed", "column": "split_column", **recipe.OPTIONS}
"""Options that have another name than what they set."""


@dataclass(frozen=True)
class Command:
    """A line to type, and what it is for."""

    what: str
    line: str


def make(run: Run) -> Section:
    """From images to this page."""
    store, root = str(run.store), str(run.root) if run.root else None
    images, selected = root or "IMAGES", _selected(run.selection)
    source = ("MANIFEST", images) if _of_manifest(run) else (images, None)
    extracted = _extracted(run.facts["spec"]) | {"weights": _weights(run)}
    lines = [Command("Extract the features", _line("extract", source[0], o=store, root=source[1], **extracted))]
    about, more, lead = store, selected, "From the images to this page."
    if run.model:
        about, more = str(run.model.path), {"store": store}
        if "backbone" in trained_parts(run.model):
            # A fit on what its backbone gives, and training from there, would be another model.
            lead = "From the images to this page, with the model as it is: it began at the features of another store."
        else:
            lines += _of_model(run.model, about, store, images, selected)
        # On images that it was fitted on, there is no fair score.
        if selected or not run.fitted_here:
            lines.append(Command("Score it", _line("evaluate", about, store)))
    lines.append(Command("Look at every depth", _line("probe", store, **selected)))
    logs = [word for folder in run.logs for word in ("--finetune", str(folder))]
    lines.append(Command("Make this page", _line("report", about, *logs, o="report.html", root=root, **more)))
    return Section("commands", TITLE, lead, tuple(lines))


def _weights(run: Run) -> Path | None:
    """The backbone beside the model, if it is one that is known by no name."""
    if not run.model or not run.model.path or run.model.spec.backbone in BACKBONES:
        return None
    file = finetuned_path(run.model.path)
    return file if file.is_file() else None


def _of_model(model: Model, path: str, store: str, root: str, selected: dict[str, Any]) -> list[Command]:
    tuned = model.info.get("finetune")
    by_hand = trained_parts(model) and not tuned
    what = "Fit the head that your own training began at" if by_hand else "Fit the head"
    fitted = "head.featx" if tuned or by_hand else path
    lines = [Command(what, _line("fit", store, o=fitted, **_fitted(model, store), **selected))]
    if tuned:
        options = {OPTIONS.get(name, name): value for name, value in _unusual(tuned["recipe"], Recipe).items()}
        lines.append(Command("Train it further", _line("finetune", fitted, store, o=path, root=root, **options)))
    return lines


def _of_manifest(run: Run) -> bool:
    """Whether a folder alone cannot have given the store's columns and labels: only a manifest can."""
    with Store(run.store) as store:
        columns, path = store.columns, run.images.paths[0]
        folder = not columns or (list(columns) == ["split"] and path.split("/")[0] == columns["split"][0])
        return not folder or store.multilabel_targets is not None


def _extracted(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a spec that are not the default."""
    chosen = _unusual(spec, ExtractSpec)
    return {OPTIONS.get(name, name): value for name, value in chosen.items() if name not in IMPLIED}


def _fitted(model: Model, store: str) -> dict[str, Any]:
    """The options that fit a model again: what was chosen is given."""
    info, found = model.info, model.info["search"]
    # Of one that was trained further, what it was then: it has become softmax.
    best = found["best"]
    given = {"head": best["head"], "blocks": model.spec.blocks, "C": f"{best['C']:g}"}
    usual = {"normalize": "power", "folds": 5, "seed": 0}
    given |= {name: found[name] for name, value in usual.items() if found[name] != value}
    with Store(store) as opened:
        if opened.spec.pools != model.spec.pools:
            given["pools"] = model.spec.pools
    head = model.estimator.named_steps["head"]
    given["class_weight"] = getattr(head, "estimator", head).class_weight
    if info.get("sample_weight", "given") != "given":
        given["weight_column"] = info["sample_weight"]
    return given | ({"calibrate": True} if model.calibration else {})


def _selected(selection: Mapping[str, Any]) -> dict[str, Any]:
    return {OPTIONS.get(name, name): selection[name] for name in ("column", "test_size") if selection.get(name)}


def _unusual(values: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """The fields of a dataclass whose values are not its defaults."""
    usual = json.loads(json.dumps({field.name: field.default for field in fields(kind)}))
    return {name: value for name, value in json.loads(json.dumps(values)).items() if value != usual.get(name)}


def _line(command: str, *arguments: str, **options: Any) -> str:
    """A command line, quoted for a shell; an option that is None is left out, one that is True takes no value."""
    words = ["featx", command, *arguments]
    for name, value in options.items():
        flag = "-o" if name == "o" else f"--{name.replace('_', '-')}"
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        words += [] if value is None else [flag] if value is True else [flag, text]
    return shlex.join(words)
