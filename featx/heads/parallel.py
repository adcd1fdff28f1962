"""One task a core, where tasks are products of matrices."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from joblib import cpu_count, parallel_config
from joblib.parallel import LokyBackend, get_active_backend
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from featx.errors import EngineError

Task = TypeVar("Task")
Result = TypeVar("Result")
MAX_CELLS = 1 << 27
"""Tasks that are done at once hold at most this many values between them: 0.5 GB in float32, of which some four copies
are needed."""

ONE_THREAD_CELLS = 1 << 26
"""Products of a matrix of at most so many values with a few columns are slower in several threads (measured)."""


def workers_for(tasks: int, cells: int, most: int | None = None) -> int:
    """How many of so many tasks to do at once, each on a matrix of ``cells`` numbers: one a core, or ``most``."""
    return max(1, min(tasks, most or cpu_count(), MAX_CELLS // max(cells, 1)))


def spread(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, size: Callable[[Task], int] = lambda _: 0
) -> list[Result]:
    """What a function makes of each task, in their order, on so many threads, see `workers_for`.

    Tasks of the largest ``size`` are begun first, so that none of them is left alone at the end.
    """
    if workers == 1:
        return [function(task) for task in tasks]
    order = sorted(range(len(tasks)), key=lambda number: -size(tasks[number]))
    # Threads that share one product wait for one another, most of all beside other programs.
    with threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        results = dict(zip(order, pool.map(function, [tasks[number] for number in order]), strict=True))
    return [results[number] for number in range(len(tasks))]


def one_thread_if_small(cells: int) -> AbstractContextManager[object]:
    """Around products of a matrix of ``cells`` values with a few columns: one thread, unless there are very many."""
    return threadpool_limits(1 if cells <= ONE_THREAD_CELLS else None, user_api="blas")  # type: ignore[no-any-return]


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Around what several processes do: each has one thread, so that sums are added up in one order for any number.

    A backend that joblib was given instead of its own, as Ray's, stays, and sees to its own threads.
    """
    backend, _ = get_active_backend()
    local = isinstance(backend, LokyBackend)
    with (
        threadpool_limits(limits=1, user_api="blas"),
        parallel_config("loky", inner_max_num_threads=1) if local else nullcontext(),
    ):
        yield


@contextmanager
def among_processes(jobs: int) -> Iterator[None]:
    """Around what so many processes do: ``EngineError`` if one of them is ended from outside."""
    try:
        yield
    except BrokenProcessPool as error:
        raise EngineError(
            f"a process of --jobs {jobs} was ended from outside, as a system does when memory runs out; "
            "run it again with fewer --jobs"
        ) from error
