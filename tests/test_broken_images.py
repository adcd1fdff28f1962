"""Broken images give features or a recorded failure; they never crash or stall the run, or use up the memory."""

import json
import subprocess
import sys
from pathlib import Path

import broken_images
import pytest

from featx.images.decoding.decoder import decode
from featx.spec.value_range import ValueRange

SECONDS, MEGABYTES = 10, 1000


@pytest.mark.slow
@pytest.mark.usefixtures("oxford")
def test_a_corpus_of_broken_images_gives_features_or_recorded_failures(tmp_path: Path) -> None:
    made = dict(broken_images.corpus())
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
    command = [sys.executable, "-W", "error", broken_images.__file__, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert [line for line in run.stderr.splitlines() if not broken_images.LIBTIFF_LINE.match(line)] == []
    found = json.loads(run.stdout)
    assert found["files"] == len(made) >= 500
    assert found["features"] + found["failures"] == len(made)
    # The corpus also has intact files, so that failures do not have another cause.
    assert found["features"] > 100 < found["failures"]
    assert found["silent"] == found["changed"] == []
    assert found["slowest"][0] < SECONDS, found["slowest"]
    assert found["decoding_mb"] < MEGABYTES > found["peak_mb"]


def test_every_intact_file_of_the_corpus_is_decoded() -> None:
    for name, data in broken_images.intact():
        # SPIDER has floats, for which a range must be known.
        assert decode(data, value_range=ValueRange.parse("auto:0:255")).image.width, name
