"""featx never runs code from a file: no module calls a function that could do so."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import featx
from featx.files import limits
from featx.files import untrusted_hdf5 as hdf5
from featx.images.decoding import memory_budget

PACKAGE = Path(featx.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "marshal", "shelve", "yaml", "imp", "code",
                     "xmlrpc", "pickletools"}  # fmt: skip
"""Modules that create objects or code from the data they read."""
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "breakpoint", "importlib.import_module",
    "joblib.load", "numpy.fromregex", "numpy.lib.format.read_array", "pandas.read_pickle", "pandas.read_hdf",
    "torch.jit.load", "torch.hub.load", "torch.package.PackageImporter", "torch.export.load",
    "keras.models.load_model", "onnx.load_external_data_for_model", "skops.io.load",
    "os.system", "os.popen", "runpy.run_path", "subprocess.getoutput", "shutil.unpack_archive",
    "sqlite3.connect", "multiprocessing.connection.Client",
}  # fmt: skip
"""Functions that run code from a file or a text."""
FORBIDDEN_METHODS = {"extractall", "load_extension", "read_pickle", "to_pickle"}
"""Methods of any object; ``extractall`` of ``tarfile`` and ``zipfile`` can write outside of the target folder."""
DEMANDED = {
    "torch.load": ("weights_only", True),
    "onnx.load": ("load_external_data", False),
}
"""Calls that are allowed only with this argument and value."""
REFUSED_ARGUMENTS = {"allow_pickle": True, "shell": True, "trust_remote_code": True}
ALLOWED = {
    ("featx/cli/group.py", "importlib.import_module"),  # names from its own table
    # The package pillow-heif, and modules that the parent process has imported itself and names over its own pipe.
    ("featx/images/decoding/formats.py", "importlib.import_module"),
    ("featx/runtime/packages.py", "importlib.import_module"),  # names written in the package
    ("featx/extraction/ray_executor.py", "pickle.PicklingError"),  # an exception about sending; loads nothing
    ("featx/exporting/torch_files.py", "torch.export.load"),  # the file that the line before wrote
}


def faults(source: str, where: str = "planted.py") -> Iterator[str]:
    """Yield each forbidden import and call of a module, with its line."""
    tree = ast.parse(source)
    names = dict(_imported(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom) and all(
                (where, f"{node.module}.{it.name}") in ALLOWED for it in node.names
            ):
                continue
            yield from (f"{where}:{node.lineno}: {name}" for name in modules if name.split(".")[0] in FORBIDDEN_MODULES)
        elif isinstance(node, ast.Call):
            yield from (f"{where}:{node.lineno}: {fault}" for fault in _faults_of_call(node, names, where))


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield each imported name and its full name, such as ``np`` for ``numpy`` and ``load`` for ``joblib.load``."""
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
    """Return the full name of a called function, as far as the imports of the module define it."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value, names)}.{node.attr}"
    return ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_runs_code_from_files(path: Path) -> None:
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
def test_forbidden_calls_are_found(source: str, fault: str) -> None:
    (found,) = faults(source)
    assert found.split(": ")[1].startswith(fault)


def test_allowed_calls_are_not_reported() -> None:
    assert not list(faults("import torch, onnx, numpy as np\ntorch.load(p, weights_only=True)\nmodel.eval()\n"
                           "onnx.load(p, load_external_data=False)\nnp.load(p, allow_pickle=False)"))  # fmt: skip


def format_bytes(size: int) -> str:
    """Format a size as SECURITY.md does: ``3 GiB``, ``1.43 GB``."""
    for shift, unit in ((30, "GiB"), (20, "MiB")):
        if size % (1 << shift) == 0:
            return f"{size >> shift} {unit}"
    return f"{size / 1e9:.2f} GB"


def test_security_page_names_existing_tests_and_the_limits_in_use() -> None:
    said = (PACKAGE.parent / "SECURITY.md").read_text()
    table = said.partition("| input |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) >= 10
    for row in table:
        names = re.findall(r"`(test_\w+\.py)`", row)
        assert names, row
        assert all((Path(__file__).parent / name).is_file() for name in names), row
    bounds = said.partition("## Limits")[2].partition("## What")[0]
    assert f"{memory_budget.MAX_PIXELS:,};" in bounds
    assert f"JPEG 2000 counts {memory_budget.COST_JPEG2000} times" in bounds
    assert f"in Python {memory_budget.COST_PYTHON_DECODER} times" in bounds
    assert f"32-bit values {memory_budget.COST_WIDE_MODE} times" in bounds
    assert f"more than {memory_budget.FREE_JPEG_SCANS} scans" in bounds
    assert limits.URL_IMAGE.default == memory_budget.FILE_BYTES_PER_PIXEL * memory_budget.MAX_PIXELS
    for limit in limits.LIMITS.values():
        value = re.escape(format_bytes(limit.default))
        assert re.search(rf"\| {value}[^|]* \| `--limit {limit.name}=SIZE`", bounds), limit
    assert f"| {memory_budget.FILE_BYTES_PER_PIXEL} for each of these pixels |" in bounds
    assert f"| {limits.MAX_HEADER // 10**6} MB," in bounds
    assert f"or {hdf5.MAX_EXPANSION} times its files" in bounds
