"""Where scikit-learn's fits run in parallel: in processes of this machine, or on a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager

from joblib import parallel_config

from featx.errors import EngineError
from featx.runtime import Compute


@contextmanager
def parallel_workers(compute: Compute) -> Iterator[int]:
    """Make joblib run parallel fits as ``compute`` says, and return the number of workers.

    On this machine the default is one worker; on a Ray cluster it is the number of its CPUs.

    Raises
    ------
    EngineError
        If Ray is not installed, if its cluster cannot be reached or has no CPU, or if a worker is lost.
    """
    if compute.executor == "local":
        yield compute.workers or 1
        return
    # Imported here because it loads the engines, which a fit does not need.
    from featx.extraction import Cluster

    with Cluster(compute.ray_address).connected("--executor ray") as ray:
        from ray.util.joblib import register_ray

        register_ray()  # type: ignore[no-untyped-call]
        if not (cpus := int(ray.cluster_resources().get("CPU", 0))):
            raise EngineError("--executor ray needs a cluster with CPUs, got none; start a node that has CPUs")
        try:
            with parallel_config("ray"):
                yield compute.workers or cpus
        except ray.exceptions.RayError as error:
            raise EngineError(f"a Ray worker was lost during a fit: {error}; run the command again") from error
