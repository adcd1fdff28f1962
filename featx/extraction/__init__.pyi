from .assembly import MISSING_IMAGES as MISSING_IMAGES
from .assembly import AssemblyOptions as AssemblyOptions
from .assembly import assemble_shards as assemble_shards
from .extraction_run import extract as extract
from .ray_cluster import Cluster as Cluster
from .report import ExtractReport as ExtractReport
from .resource_plan import parse_count as parse_count
from .resource_plan import plan as plan
