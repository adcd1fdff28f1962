"""Among what scikit-learn's fits are shared out: processes of this machine, or a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager

from joblib import parallel_config

from featx.errors import EngineError
from featx.scale import Cluster

RAY = "ray"


@contextmanager
def shared_out(jobs: int | str) -> Iterator[int]:
    """How many processes there are to fit in; within, joblib runs them on a Ray cluster if ``jobs`` is ``"ray"``.

    Raises
    ------
    EngineError
        If Ray is not installed, its cluster cannot be reached, or a worker is lost.
    """
    if jobs != RAY:
        yield int(jobs)
        return
    with Cluster().connected("--jobs ray") as ray:
        from ray.util.joblib import register_ray

        register_ray()  # type: ignore[no-untyped-call]
        try:
            with parallel_config(RAY):
                yield int(ray.cluster_resources()["CPU"])
        except ray.exceptions.RayError as error:
            raise EngineError(f"a Ray worker that fits was lost: {error}; run it again") from error
