"""Where a trunk's 26 tensors come from, in which file formats, and their digest."""

from featx.weights.beside import beside, load_for, save_beside
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
    "beside",
    "check_tensors",
    "list_trunks",
    "load_for",
    "load_trunk",
    "read_weights",
    "save_beside",
    "trunk_digest",
    "verify",
]
