"""Fine-tuning in several processes gives the same model as in one."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import draw
from torch import distributed

from featx.engines import load_backbone_for
from featx.extraction import extract
from featx.finetuning.distributed import (
    broadcast_from_main,
    data_parallel,
    is_main_process,
    local_device,
    local_rows,
    process_group,
    sum_over_processes,
    wait_for_all,
)
from featx.models import Validation, fit, load_model
from featx.spec import ExtractSpec

pytestmark = pytest.mark.slow

# Nine training images in batches of four: the last batch has one row for two processes. In float32, because bfloat16
# rounds half of a batch differently than the whole batch.
OPTIONS = ("--epochs", "2", "--head-epochs", "1", "--batch-size", "4", "--lr", "1e-3", "--backbone-lr-scale", "0.5",
           "--device", "cpu", "--engine", "torch", "--val-size", "0.25", "--refit", "--ema-decay", "0.5",
           "--no-amp")  # fmt: skip


@pytest.fixture
def folder(tmp_path, oxford):
    for code, name in enumerate(("blue", "red")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            draw(2 - 2 * code, 10 * code + number).save(tmp_path / "photos" / name / f"{number}.png")
    store = tmp_path / "photos.h5"
    extract(tmp_path / "photos", store, ExtractSpec(size=32, blocks=(5,)))
    # A small C leaves room for a better validation accuracy.
    fit(store, tmp_path / "photos.featx", head="softmax", C=1e-3, blocks=(5,), validation=Validation(folds=2))
    return tmp_path


def tune(folder, output, *launcher):
    command = [sys.executable, *launcher, "-m", "featx", "finetune", "photos.featx", "photos.h5", "-o", output,
               "--root", "photos", "--json", *OPTIONS]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (folder / f"{output}.finetune" / "log.jsonl").read_text().splitlines()]
    return json.loads(done.stdout), [{**row, "seconds": None} for row in log]


def test_two_processes_train_the_same_model_as_one(folder, oxford):
    one, one_log = tune(folder, "one.featx")
    two, two_log = tune(folder, "two.featx", "-m", "torch.distributed.run", "--nproc-per-node", "2")
    assert one["backbone"]
    assert two == {
        **one,
        "model": "two.featx",
        "backbone": "two.backbone.safetensors",
        "log": "two.featx.finetune/log.csv",
    }
    assert len(two_log) == len(one_log)
    for row, other in zip(one_log, two_log, strict=True):
        assert {k: v for k, v in row.items() if not isinstance(v, float)} == {
            k: v for k, v in other.items() if not isinstance(v, float)
        }
        for name, value in row.items():
            if isinstance(value, float):
                assert other[name] == pytest.approx(value, abs=1e-4), (row, name)
    models = [load_model(folder / f"{name}.featx") for name in ("one", "two")]
    backbones = [load_backbone_for(model.spec, model=model.path).tensors for model in models]
    # Adam takes a full step even if a gradient is only rounding error. So single weights differ, but not their mean.
    for name in ("features.24.weight", "features.28.weight", "features.28.bias"):
        moved = np.abs(backbones[0][name] - oxford.tensors[name]).mean()
        assert 0 < np.abs(backbones[1][name] - backbones[0][name]).mean() < moved / 10
    rows = np.random.default_rng(0).random((4, 512), np.float32)
    np.testing.assert_allclose(models[1].decision_function(rows), models[0].decision_function(rows), atol=1e-3)


def test_all_processes_use_the_validation_score_of_the_main_process(folder):
    """Here the second process computes a worse score after every epoch. By its own score it would not refit."""
    code = (
        "import os, runpy, sys; from featx.finetuning.stage import Stage\n"
        "logits = Stage._logits\n"
        "def worse(self, model, inputs, labels):\n"
        "    scores, labels = logits(self, model, inputs, labels)\n"
        "    return (scores if model.training else -scores), labels\n"
        "if os.environ['RANK'] == '1': Stage._logits = worse\n"
        "sys.argv[0] = 'featx'; runpy.run_module('featx', run_name='__main__')"
    )
    (folder / "worse.py").write_text(code)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "worse.py"]
    command = ["finetune", "photos.featx", "photos.h5", "-o", "two.featx", "--root", "photos", "--json", *OPTIONS]
    done = subprocess.run([*launcher, *command], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    one, _ = tune(folder, "one.featx")
    assert json.loads(done.stdout)["epochs"] == one["epochs"]


def test_a_torch_without_distributed_trains_in_one_process(monkeypatch):
    for name in ("is_torchelastic_launched", "is_initialized"):
        monkeypatch.delattr(distributed, name)
    monkeypatch.setattr(distributed, "is_available", lambda: False)
    device = torch.device("cpu")
    with process_group(device):
        wait_for_all()
        assert is_main_process()
        assert local_device(device) == device
        assert broadcast_from_main(1, 2.5) == [1, 2.5]
        assert local_rows(np.arange(5))[1] == 1.0
        model = torch.nn.Linear(1, 1)
        assert data_parallel(model, device) is model


def test_a_single_process_trains_on_all_rows():
    rows = np.arange(5)
    assert local_rows(rows) == (rows, 1.0)
    assert sum_over_processes(1, 2.5) == [1, 2.5]
