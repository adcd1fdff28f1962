"""requirements.lock pins every requirement of setup.cfg by hash, from the package index only."""

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = dict(re.findall(r"^([a-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", LOCK, re.M))


def wanted() -> list[str]:
    """Return the requirements of setup.cfg, including all extras."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    lines = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    return [line for lines in lines for line in lines.split("\n") if line and not line.startswith("featx[")]


@pytest.mark.parametrize("line", wanted())
def test_every_requirement_is_locked(line: str) -> None:
    requirement = Requirement(line)
    name = re.sub(r"[-_.]+", "-", requirement.name.lower())
    assert requirement.specifier.contains(PINS[name]), f"{line}: {name} {PINS[name]}; run make lock"


def test_every_package_is_locked_by_hash_and_none_by_url() -> None:
    blocks = re.split(r"^(?=\S)", LOCK, flags=re.M)[1:]
    assert len(blocks) == len(PINS) > 100
    for block in blocks:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", block), block.splitlines()[0]
    assert "://" not in LOCK
    assert "--index-url" not in LOCK
