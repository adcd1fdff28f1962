from .dataset import load_features as load_features
from .exporting import export_features as export_features
from .merging import merge as merge
from .neighbors import nearest as nearest
from .selection import select as select
from .verification import verify as verify
