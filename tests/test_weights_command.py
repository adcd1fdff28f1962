"""The ``featx backbones`` command group."""

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from featx.backbones.cache import write_cached
from featx.backbones.digest import backbone_digest
from featx.backbones.loading import load_backbone
from featx.backbones.registry import BACKBONES
from featx.backbones.vgg16 import tensor_shapes
from featx.cli.backbones import command
from featx.errors import WeightsError, WeightsMismatch

ZEROS = {name: np.zeros(shape, np.float32) for name, shape in tensor_shapes().items()}
DIGEST = backbone_digest(ZEROS)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("FEATX_CACHE", str(tmp_path / "cache"))
    yield lambda *arguments: CliRunner().invoke(command, arguments)
    shutil.rmtree(tmp_path)  # each backbone has 59 MB


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "zeros.safetensors"
    save_file(ZEROS, path)
    return path


def test_add_then_verify_get_and_list(run, file, tmp_path):
    added = run("add", str(file), "--name", "mine", "--preprocessing", "imagenet1k_v1")
    assert added.output == f"mine {DIGEST} from {file}\n"
    assert run("verify", "mine").output == f"mine {DIGEST} is complete\n"
    assert run("get", "mine").output == f"mine {DIGEST} from {file}\n"
    lines = run("list").output.splitlines()
    assert lines[0].split() == [
        "oxford",
        BACKBONES["oxford"].digest[:12],
        "CC",
        "BY",
        "4.0",
        "not",
        "in",
        "the",
        "cache",
    ]
    assert lines[-1].split() == ["mine", DIGEST[:12], "-", str(tmp_path / "cache" / "mine.safetensors")]


def test_oxford_is_the_default(run, monkeypatch):
    with monkeypatch.context() as outside:
        outside.delenv("FEATX_CACHE")
        weights = load_backbone()
    write_cached(weights)
    assert run("get").output == f"oxford {weights.digest} from {weights.source}\n"
    assert run("verify").output == f"oxford {weights.digest} is complete\n"


def test_list_as_json(run):
    entries = json.loads(run("list", "--json").output)
    assert [entry["name"] for entry in entries] == list(BACKBONES)
    assert entries[0]["digest"] == BACKBONES["oxford"].digest
    assert not any(entry["cached"] for entry in entries)


def test_errors_are_raised_to_the_main_command(run, file):
    assert isinstance(run("add", str(file)).exception, WeightsMismatch)
    assert isinstance(run("verify").exception, WeightsError)
    assert run("add").exit_code == 2


@pytest.mark.parametrize("name", ["list", "get", "add", "verify"])
def test_each_help_has_an_example(run, name):
    assert f"Example: featx backbones {name}" in run(name, "--help").output
