from .assembly import assemble_shards as assemble_shards
from .ray_cluster import Cluster as Cluster
from .ray_cluster import is_ray as is_ray
from .report import ExtractReport as ExtractReport
from .resource_plan import parse_count as parse_count
from .resource_plan import plan as plan
from .to_store import extract as extract
