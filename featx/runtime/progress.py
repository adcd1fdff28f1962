"""Progress bars: on a terminal, for what takes more than a second."""

from typing import Any

from tqdm import tqdm


def progress_bar(total: int, unit: str, task: str, *, shown: bool) -> Any:
    """A tqdm bar with rate and time left on standard error; silent unless ``shown`` and at a terminal."""
    return tqdm(total=total, unit=unit, desc=task, delay=1, disable=None if shown else True)
