"""Imports point down: a module imports only from layers below its own (or from its own package)."""

import ast
from pathlib import Path

import pytest

import featx

PACKAGE = Path(featx.__file__).parent
LAYERS = [
    {"version", "errors", "blocks", "augment", "progress", "signals", "texts", "words"},
    {"limits", "forms"},
    {"atomic", "hdf5"},
    {"spec", "figure", "packages", "rows", "contact_sheet"},
    {"weights", "images", "store", "heads", "query"},
    {"engines"},
    {"bridge"},
    {"model", "scale"},
    {
        "load",
        "extract",
        "fit",
        "evaluate",
        "predict",
        "info",
        "export",
        "views",
        "export_features",
        "merge",
        "select",
        "search",
        "verify",
        "explain",
    },
    {"features", "finetune", "probe", "suspects", "audit"},
    {"advise", "plan"},
    {"report"},
    {"commands", "__init__"},
    {"__main__"},
]
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_units(path: Path) -> set[str]:
    """First-level featx modules that a file imports, wherever in the file."""
    units = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [f"featx.{alias.name}" for alias in node.names] if node.module == "featx" else [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        units |= {name.split(".")[1] for name in names if name.startswith("featx.")}
    return units


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    unit = unit_of(path)
    for other in imported_units(path) - {unit}:
        assert LAYER_OF[other] < LAYER_OF[unit], (
            f"{path.relative_to(PACKAGE)} imports {other} of its own or a higher layer"
        )


def test_the_rule_sees_imports() -> None:
    assert imported_units(PACKAGE / "features.py") >= {"engines", "extract", "spec"}
