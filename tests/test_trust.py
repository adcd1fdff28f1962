"""Nothing that a file brings along is run: what could do so is called nowhere in the package."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import featx

PACKAGE = Path(featx.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "yaml", "imp", "code",
                     "xmlrpc", "pickletools"}  # fmt: skip
"""Modules that make objects, or code, of what they read."""
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "breakpoint", "importlib.import_module",
    "joblib.load", "numpy.fromregex", "numpy.lib.format.read_array", "pandas.read_pickle", "pandas.read_hdf",
    "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "torch.export.load",
    "keras.models.load_model", "onnx.load_external_data_for_model", "skops.io.load",
    "os.system", "os.popen", "runpy.run_path", "subprocess.getoutput", "shutil.unpack_archive",
    "sqlite3.connect", "multiprocessing.connection.Client",
}  # fmt: skip
"""Functions that run what a file, or a text, says."""
FORBIDDEN_METHODS = {"extractall", "load_extension", "read_pickle", "to_pickle"}
"""Of whatever object: ``tarfile`` and ``zipfile`` are among those whose ``extractall`` writes where a name leads."""
DEMANDED = {
    "torch.load": ("weights_only", True),
    "onnx.load": ("load_external_data", False),
}
"""Calls that are allowed with one argument, and its value."""
REFUSED_ARGUMENTS = {"allow_pickle": True, "shell": True, "trust_remote_code": True}
ALLOWED = {
    ("featx/__init__.py", "importlib.import_module"),  # of its own table
    ("featx/commands/__init__.py", "importlib.import_module"),  # of its own table
    ("featx/packages.py", "importlib.import_module"),  # of names that stand in the package
    ("featx/export/torch_files.py", "torch.export.load"),  # of what was written in the line before
}


def faults(source: str, where: str = "planted.py") -> Iterator[str]:
    """What a file has that it must not have, each with its line."""
    tree = ast.parse(source)
    names = dict(_imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (f"{where}:{node.lineno}: {name}" for name in modules if name.split(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.Call):
            yield from (f"{where}:{node.lineno}: {fault}" for fault in _faults_of_call(node, names, where))


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What names of this file stand for: ``np`` for ``numpy``, ``load`` for ``joblib.load``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], alias.name if alias.asname else alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name, f"{node.module}.{alias.name}"


def _faults_of_call(call: ast.Call, names: dict[str, str], where: str) -> Iterator[str]:
    called = _dotted(call.func, names)
    given = {word.arg: word.value for word in call.keywords}
    if called in FORBIDDEN_CALLS and (where, called) not in ALLOWED:
        yield called
    if isinstance(call.func, ast.Attribute) and call.func.attr in FORBIDDEN_METHODS:
        yield call.func.attr
    if called in DEMANDED:
        argument, value = DEMANDED[called]
        found = given.get(argument)
        if not isinstance(found, ast.Constant) or found.value is not value:
            yield f"{called} without {argument}={value}"
    for argument, value in REFUSED_ARGUMENTS.items():
        found = given.get(argument)
        if found is not None and not (isinstance(found, ast.Constant) and not found.value):
            yield f"{argument} that may be {value}"


def _dotted(node: ast.expr, names: dict[str, str]) -> str:
    """The full name of what is called, as far as the file's imports tell."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_runs_what_a_file_brings_along(path: Path) -> None:
    assert list(faults(path.read_text(), str(path.relative_to(PACKAGE.parent)))) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("import pickle", "pickle"),
        ("def f():\n    from pickle import loads", "pickle"),
        ("import yaml.reader", "yaml"),
        ("import joblib\njoblib.load(path)", "joblib.load"),
        ("from joblib import load as give\ngive(path)", "joblib.load"),
        ("import torch as t\nt.load(path)", "torch.load without weights_only=True"),
        ("import torch\ntorch.load(path, weights_only=False)", "torch.load without weights_only=True"),
        ("import torch\ntorch.load(path, weights_only=safe)", "torch.load without weights_only=True"),
        ("import onnx\nonnx.load(path)", "onnx.load without load_external_data=False"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "allow_pickle that may be True"),
        ("import subprocess\nsubprocess.run(text, shell=True)", "shell that may be True"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("__import__(text)", "__import__"),
        ("import importlib\nimportlib.import_module(text)", "importlib.import_module"),
        ("tar.extractall(folder)", "extractall"),
        ("import os\nos.system(text)", "os.system"),
    ],
)
def test_what_is_forbidden_is_found(source: str, fault: str) -> None:
    (found,) = faults(source)
    assert found.split(": ")[1].startswith(fault)


def test_what_is_allowed_is_not_found() -> None:
    assert not list(faults("import torch, onnx, numpy as np\ntorch.load(p, weights_only=True)\nmodel.eval()\n"
                           "onnx.load(p, load_external_data=False)\nnp.load(p, allow_pickle=False)"))  # fmt: skip
