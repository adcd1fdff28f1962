"""Make the section with the commands that reproduce the store, the model and the report."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from featx.backbones import BACKBONES
from featx.engines import finetuned_path
from featx.finetuning import Recipe
from featx.inspection.html_report.context import ReportContext
from featx.inspection.html_report.section import Section
from featx.models import Model, trained_parts
from featx.spec import ExtractSpec
from featx.store import Store

IMPLIED = ("backbone_digest", "preprocessing", "calibration")
"""Fields of a spec that follow from other fields and from the images."""
OPTION_NAMES = {"view_seed": "seed", "random_state": "seed"}
"""Command-line options whose names differ from the fields that they set."""
OLD_RECIPE_NAMES = {"learning_rate": "lr", "trunk_factor": "backbone_lr_scale", "average": "ema_decay",
                    "seed": "random_state"}  # fmt: skip
"""Present names of recipe fields that have other names in models of older versions."""


@dataclass(frozen=True)
class CommandLine:
    """A command line and its purpose."""

    purpose: str
    line: str


def make_commands(context: ReportContext) -> Section:
    """List the commands that reproduce this page from the images."""
    store, root = str(context.store), str(context.root) if context.root else None
    images, selected = root or "IMAGES", _selection_options(context.selection)
    source = ("MANIFEST", images) if _is_from_manifest(context) else (images, None)
    extract_options = (
        _extract_options(context.facts["spec"]) | _column_options(context) | {"weights": _weights(context)}
    )
    lines = [
        CommandLine("Extract the features", _line("extract", source[0], o=store, root=source[1], **extract_options))
    ]
    about, options, lead = store, selected, "These commands reproduce this page from the images."
    if context.model:
        about, options = str(context.model.path), {"store": store}
        if "backbone" in trained_parts(context.model):
            # Fitting and fine-tuning on features of the fine-tuned backbone would make another model.
            lead += " The model is taken as it is: its training started from the features of another store."
        else:
            lines += _model_commands(context.model, about, store, images, selected)
        # A score on images that the model was fitted on would be optimistic.
        if selected or not context.fitted_here:
            lines.append(CommandLine("Score the model", _line("evaluate", about, store)))
    seed = _rename({"random_state": context.selection.get("random_state") or None})
    lines.append(CommandLine("Compare the depths", _line("probe", store, **selected, **seed)))
    logs = [word for folder in context.logs for word in ("--finetune", str(folder))]
    lines.append(CommandLine("Write this page", _line("report", about, *logs, o="report.html", root=root, **options)))
    return Section(lead, tuple(lines))


def _weights(context: ReportContext) -> Path | None:
    """Return the file of a fine-tuned backbone beside its model, if the model has one."""
    if not context.model or not context.model.path or context.model.spec.backbone in BACKBONES:
        return None
    file = finetuned_path(context.model.path)
    return file if file.is_file() else None


def _model_commands(model: Model, path: str, store: str, root: str, selected: dict[str, Any]) -> list[CommandLine]:
    tuned = model.info.get("finetune")
    own_training = trained_parts(model) and not tuned
    purpose = "Fit the head that your own training started from" if own_training else "Fit the head"
    fitted = "head.featx" if tuned or own_training else path
    lines = [CommandLine(purpose, _line("fit", store, o=fitted, **_fit_options(model, store), **selected))]
    if tuned:
        recipe = {OLD_RECIPE_NAMES.get(name, name): value for name, value in tuned["recipe"].items()}
        options = _rename(_changed_fields(recipe, Recipe))
        lines.append(CommandLine("Fine-tune it", _line("finetune", fitted, store, o=path, root=root, **options)))
    return lines


def _is_from_manifest(context: ReportContext) -> bool:
    """Tell whether the store comes from a manifest: it then has columns or labels that a folder cannot give."""
    with Store(context.store) as store:
        columns, path = store.columns, context.images.paths[0]
        folder = not columns or (list(columns) == ["split"] and path.split("/")[0] == columns["split"][0])
        return not folder or store.multilabel_targets is not None


def _extract_options(spec: Mapping[str, Any]) -> dict[str, Any]:
    changed = _changed_fields(spec, ExtractSpec)
    return _rename({name: value for name, value in changed.items() if name not in IMPLIED})


def _column_options(context: ReportContext) -> dict[str, str]:
    """Return the options that name columns of the manifest which the store keeps under other names."""
    with Store(context.store) as store:
        columns = store.listing.get("columns", {})
    return {f"{name}_column": source for name, source in columns.items() if name in ("label", "group")}


def _fit_options(model: Model, store: str) -> dict[str, Any]:
    """Return the options that fit the same model again, with the head, blocks and C that were selected."""
    info, search = model.info, model.info["search"]
    # After fine-tuning, model.head is softmax. The search still names the head that was fitted.
    best = search["best"]
    options = {"head": best["head"], "blocks": model.spec.blocks, "C": f"{best['C']:g}"}
    defaults = {"normalize": "power", "folds": 5, "seed": 0}
    options |= {name: search[name] for name, value in defaults.items() if search[name] != value}
    with Store(store) as opened:
        if opened.spec.pools != model.spec.pools:
            options["pools"] = model.spec.pools
    head = model.estimator.named_steps["head"]
    options["class_weight"] = getattr(head, "estimator", head).class_weight
    if info.get("sample_weight", "given") != "given":
        options["weight_column"] = info["sample_weight"]
    if groups := info.get("groups"):
        options |= {"group_column": groups["column"]} if groups["column"] != "group" else {}
        options |= {"group_near_duplicates": True} if groups["near_duplicates"] else {}
    return options | ({"calibrate": True} if model.calibration else {})


def _selection_options(selection: Mapping[str, Any]) -> dict[str, Any]:
    return {name: selection[name] for name in ("split_column", "test_size") if selection.get(name)}


def _changed_fields(values: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return the fields of a dataclass whose values differ from its defaults."""
    defaults = json.loads(json.dumps({field.name: field.default for field in fields(kind)}))
    return {name: value for name, value in json.loads(json.dumps(values)).items() if value != defaults.get(name)}


def _rename(options: Mapping[str, Any]) -> dict[str, Any]:
    return {OPTION_NAMES.get(name, name): value for name, value in options.items()}


def _line(command: str, *arguments: str, **options: Any) -> str:
    """Return a command line, quoted for a shell. Options that are None are left out. True and False become flags."""
    words = ["featx", command, *arguments]
    for name, value in options.items():
        flag = "-o" if name == "o" else f"--{name.replace('_', '-')}"
        if value is False:
            words.append(flag.replace("--", "--no-", 1))
        elif value is not None:
            text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            words += [flag] if value is True else [flag, text]
    return shlex.join(words)
