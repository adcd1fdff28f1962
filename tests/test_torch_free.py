"""Without torch: features, heads and predictions work, and everything else says how to install torch."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

TESTS = Path(__file__).parent


def run_without_torch(code, *arguments):
    """Run Python code in a process in which torch is not installed; return what it printed."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(TESTS)!r}); import without_torch\n{code}"]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


WHOLE_WAY = """
from pathlib import Path
from click.testing import CliRunner
from featx.cli.group import main

photos, folder, engine, *options = sys.argv[1:]

def featx(*arguments):
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    return result.stdout

store, model = f"{folder}/{engine}.h5", f"{folder}/{engine}.featx"
featx("extract", photos, "-o", store, "--size", "96", "--blocks", "1-3", "--engine", engine, *options)
featx("fit", store, "-o", model)
print(featx("predict", model, photos, "--engine", engine))
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize(
    ("engine", "options"),
    [
        pytest.param("openvino", [], id="openvino"),
        pytest.param("ncnn", [], id="ncnn", marks=pytest.mark.slow),
        pytest.param("auto", ["--precision", "int8"], id="int8", marks=pytest.mark.slow),
        pytest.param("auto", ["--precision", "auto"], id="fastest precision", marks=pytest.mark.slow),
    ],
)
def test_extract_fit_and_predict_need_no_torch(photos, tmp_path, oxford, engine, options):
    printed = run_without_torch(WHOLE_WAY, photos, tmp_path, engine, *options)
    rows = list(csv.DictReader(printed.strip().splitlines()))
    assert len(rows) == 24
    assert np.mean([Path(row["path"]).parent.name == row["class"] for row in rows]) > 0.9


REFUSED = """
import json
import featx
from featx.backbones import load_backbone
from featx.engines import make_engine
from featx.errors import FeatxError

attempts = {
    "finetune": lambda: featx.finetune,
    "explain": lambda: featx.explain,
    "to_torch": lambda: featx.load_model(sys.argv[1]).to_torch(),
    "--format torch of export": lambda: featx.export(featx.load_model(sys.argv[1]), "model.pt2"),
    "--engine torch": lambda: make_engine(load_backbone(), featx.ExtractSpec(size=32), engine="torch"),
    "weights.pth, a torch checkpoint,": lambda: load_backbone("mine", sys.argv[2]),
    "the backbone imagenet1k_v1, which is published as a torch checkpoint,": lambda: load_backbone("imagenet1k_v1"),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except FeatxError as error:
        print(json.dumps([name, type(error).__name__, str(error)]))
"""


@pytest.mark.slow
def test_what_needs_torch_says_how_to_install_it(tmp_path, oxford, hostile_model, monkeypatch):
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "empty"))
    torch.save({}, tmp_path / "weights.pth")
    code = REFUSED.replace("load_backbone()", "None")
    lines = run_without_torch(code, hostile_model, tmp_path / "weights.pth").splitlines()
    assert len(lines) == 7
    for name, error, message in map(json.loads, lines):
        assert error == "EngineError"
        assert f"{name} needs a package: pip install 'featx[torch]' (No module named 'torch')" in message
