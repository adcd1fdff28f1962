"""How a backbone trains fastest where it lies."""

import torch

from featx.engines import TorchBackbone, bf16_is_faster, use_winograd, winograd_is_faster


def mixed_pays(place: torch.device) -> bool:
    """Whether a device is so much faster in bfloat16 that training there is mixed unasked."""
    if place.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return place.type == "cpu" and bf16_is_faster()


def configure_convolutions(backbone: TorchBackbone, place: torch.device, *, mixed: bool) -> None:
    """Let a backbone's convolutions run as is fastest on a device, in place; their parameters and names stay."""
    if place.type == "cuda":
        backbone.to(memory_format=torch.channels_last)
    elif place.type == "cpu" and not mixed and winograd_is_faster():
        use_winograd(backbone)
