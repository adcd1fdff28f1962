"""An extraction carried out in whole parts: in one process, in shards of a scheduler, or by the workers of a cluster.

What is done where changes no value: the images of a part, and so its batches, are a matter of the plan alone.
"""

from featx.scale.carrying import Here, Work, check_none
from featx.scale.cluster import Cluster, engine_of, is_ray
from featx.scale.crew import RayCrew
from featx.scale.plan import Shard, plan_groups
from featx.scale.worker import Runner

__all__ = ["Cluster", "Here", "RayCrew", "Runner", "Shard", "Work", "check_none", "engine_of", "is_ray", "plan_groups"]
