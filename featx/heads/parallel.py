"""One task a core, where tasks are products of matrices."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

Task = TypeVar("Task")
Result = TypeVar("Result")


def spread(function: Callable[[Task], Result], tasks: Iterable[Task], workers: int) -> list[Result]:
    """What a function makes of each task, in their order, on so many threads."""
    if workers == 1:
        return [function(task) for task in tasks]
    # Threads that share one product wait for one another, most of all beside other programs.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, tasks))
