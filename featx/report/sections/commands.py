"""The commands that make the store, the model and the report again."""

import shlex
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from featx.report.run import Run
from featx.report.section import Section
from featx.spec import ExtractSpec

TITLE = "Do it again"
EXTRACTED = ("blocks", "pools", "size", "resize", "interpolation", "precision", "decode", "views", "augment", "fill",
             "trunk")  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A line to type, and what it is for."""

    what: str
    line: str


def make(run: Run) -> Section:
    """From images to this page."""
    store, images = str(run.store), str(run.root or "IMAGES")
    lines = [Command("Extract the features", _line("extract", images, o=store, **_extracted(run.facts["spec"])))]
    if run.model:
        model = str(run.model.path)
        lines += [Command("Fit the head", _line("fit", store, o=model, **_fitted(run))),
                  Command("Score it", _line("evaluate", model, store))]  # fmt: skip
    lines += [Command("Look at every depth", _line("probe", store, **_selected(run.selection)))]
    source = {"store": store} if run.model else _selected(run.selection)
    about = str(run.model.path) if run.model else store
    lines.append(
        Command(
            "Make this page",
            _line("report", about, o="report.html", root=str(run.root) if run.root else None, **source),
        )
    )
    return Section("commands", TITLE, "These commands make it again, from the images to this page.", tuple(lines))


def _line(command: str, *arguments: str, **options: Any) -> str:
    """A command line, quoted for a shell; options that are None are left out."""
    words = ["featx", command, *arguments]
    for name, value in options.items():
        flag = "-o" if name == "o" else f"--{name.replace('_', '-')}"
        if value is not None:
            words += [flag] if value is True else [flag, str(value)]
    return shlex.join(words)


def _extracted(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a spec that are not the default."""
    usual = {field.name: field.default for field in fields(ExtractSpec) if field.default is not MISSING}
    found = {name: spec[name] for name in EXTRACTED if tuple_or(spec[name]) != tuple_or(usual[name])}
    if spec["views"] > 1:
        found["seed"] = spec["view_seed"]
    return {
        name: ",".join(map(str, value)) if isinstance(value, list | tuple) else value for name, value in found.items()
    }


def tuple_or(value: Any) -> Any:
    """A list as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def _fitted(run: Run) -> dict[str, Any]:
    assert run.model
    info = run.model.info
    found = info["search"]
    options: dict[str, Any] = {"head": run.model.head, "blocks": ",".join(map(str, run.model.spec.blocks)),
                               "C": f"{info['C']:g}", **_selected(info["selection"])}  # fmt: skip
    usual = {"normalize": "power", "folds": 5, "seed": 0}
    options |= {name: found[name] for name, value in usual.items() if found[name] != value}
    if "calibration" in info:
        options["calibrate"] = True
    return options


def _selected(selection: Mapping[str, Any]) -> dict[str, Any]:
    names = {"column": "split_column", "test_size": "test_size"}
    return {names[name]: value for name, value in selection.items() if name in names}
