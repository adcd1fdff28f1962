"""Where a trunk's 26 tensors come from, in which file formats, and their digest."""

from featx.weights.digest import check_tensors, trunk_digest
from featx.weights.loading import TrunkEntry, add_file, list_trunks, load_trunk, verify
from featx.weights.readers import read_weights
from featx.weights.trunks import TRUNKS, Trunk, TrunkWeights

__all__ = [
    "TRUNKS",
    "Trunk",
    "TrunkEntry",
    "TrunkWeights",
    "add_file",
    "check_tensors",
    "list_trunks",
    "load_trunk",
    "read_weights",
    "trunk_digest",
    "verify",
]
