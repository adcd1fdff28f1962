"""How a trunk trains fastest where it lies."""

import torch

from featx.engines.processor import bf16_pays, winograd_pays
from featx.engines.trunk import Trunk
from featx.engines.winograd import use_winograd


def mixed_pays(place: torch.device) -> bool:
    """Whether a device is so much faster in bfloat16 that training there is mixed unasked."""
    if place.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return place.type == "cpu" and bf16_pays()


def lay_out(trunk: Trunk, place: torch.device, *, mixed: bool) -> None:
    """Let a trunk's convolutions run as is fastest on a device, in place; their parameters and names stay."""
    if place.type == "cuda":
        trunk.to(memory_format=torch.channels_last)
    elif place.type == "cpu" and not mixed and winograd_pays():
        use_winograd(trunk)
