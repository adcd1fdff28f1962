"""Run the loop of a measured process: read requests from standard input, run each, and print seconds and memory.

A request is one line of JSON: ``{"what": "backbone" | "store", "images": n}``. ``backbone`` runs the network on n
images in memory; ``store`` goes from n JPEG files to a closed HDF5 file. This module needs only the standard library,
because the libraries have separate environments.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

BATCH = 16
SIZE = 224


def peak_mb() -> int:
    """Return the peak memory of this process in MiB; ``getrusage`` would include that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024


def serve(backbone: Callable[[int], object], store: Callable[[list[Path], Path], object]) -> None:
    """Answer requests until standard input ends.

    The first two command-line arguments are a text file that lists photographs, and a folder for HDF5 files.
    """
    photos = [Path(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    output = Path(sys.argv[2])
    for line in sys.stdin:
        request = json.loads(line)
        count = request["images"]
        began = time.perf_counter()
        if request["what"] == "backbone":
            backbone(count)
        else:
            # If there are fewer photographs than requested, they are used again from the start.
            store([photos[number % len(photos)] for number in range(count)], output)
        seconds = time.perf_counter() - began
        answer = {"seconds": seconds, "peak_mb": peak_mb()}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
