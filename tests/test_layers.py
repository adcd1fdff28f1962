"""The layers of the package: every import points to a lower layer."""

import ast
from pathlib import Path

import pytest

import featx

pytestmark = pytest.mark.core

PACKAGE = Path(featx.__file__).parent
LAYERS = [
    ["errors", "version"],
    ["runtime"],
    ["files"],
    ["table", "drawing"],
    ["backbones"],
    ["spec"],
    ["heads"],
    ["images", "store"],
    ["engines"],
    ["extraction", "curation"],
    ["models"],
    ["finetuning", "exporting"],
    ["inspection"],
    ["cli"],
    ["__main__", "__init__"],
]
"""Lowest first; docs/architecture.md says what each package is for."""
INNER_LAYERS = {
    "heads": [
        "parallel",
        "image_ids",
        "solver",
        "logme",
        "splitting",
        "metrics",
        "pipeline",
        "near_duplicates",
        "search",
    ],
    "images": ["pixels", "decoding", "sources", "range_selection", "loading"],
}
"""Modules and sub-packages of a large package, lowest first."""
LAYER_OF = {name: number for number, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    """The dotted names after ``featx.`` that a file imports from, wherever in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found += [alias.name for alias in node.names] if node.module == "featx" else [node.module or ""]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    return [name.removeprefix("featx.") for name in found if name.startswith("featx.") or name in LAYER_OF]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_to_lower_layers(path: Path) -> None:
    unit = unit_of(path)
    assert unit in LAYER_OF, (
        f"featx/{unit} is in no layer: add it to LAYERS of tests/test_layers.py, above every package that it imports "
        "and below every package that imports it, and describe it in docs/architecture.md"
    )
    for name in imports_of(path):
        other = name.split(".")[0]
        if other != unit:
            assert LAYER_OF[other] < LAYER_OF[unit], (
                f"{path.relative_to(PACKAGE)} imports featx.{name}, which is in the same layer or a higher one: "
                "move the code down, or pass what it needs as a parameter"
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_packages_import_one_another_as_a_whole(path: Path) -> None:
    for name in imports_of(path):
        package, _, file = name.partition(".")
        assert package == unit_of(path) or not file, (
            f"{path.relative_to(PACKAGE)} imports featx.{name}: import from featx.{package}, and list the name in "
            f"featx/{package}/__init__.pyi"
        )


@pytest.mark.parametrize("package", INNER_LAYERS)
def test_imports_inside_a_package_point_to_lower_layers(package: str) -> None:
    layers = INNER_LAYERS[package]
    for path in (PACKAGE / package).rglob("*.py"):
        unit = path.relative_to(PACKAGE / package).parts[0].removesuffix(".py")
        if unit == "__init__":
            continue
        assert unit in layers, f"featx/{package}/{unit} is in no layer: add it to INNER_LAYERS of tests/test_layers.py"
        for name in imports_of(path):
            if name.startswith(package + "."):
                other = name.split(".")[1]
                assert layers.index(other) <= layers.index(unit), (
                    f"{path.relative_to(PACKAGE)} imports featx.{name}, which is in a higher layer"
                )


def test_every_layer_exists() -> None:
    units = {unit_of(path) for path in FILES}
    assert set(LAYER_OF) == units


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "__init__.py"], ids=str)
def test_package_files_only_export(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 40
    assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.parse(text).body)


def test_the_rule_sees_imports() -> None:
    assert {"engines", "extraction", "spec"} <= set(imports_of(PACKAGE / "models" / "transformer.py"))
