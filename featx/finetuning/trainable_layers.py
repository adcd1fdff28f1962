"""The part of a classifier that is trained: from what the frozen layers give, to logits."""

from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from featx.backbones import BLOCKS, feature_name
from featx.engines import pool_outputs
from featx.errors import SpecError
from featx.finetuning.recipe import frozen_block
from featx.models import ImageClassifier
from featx.spec import ExtractSpec


class Tail(nn.Module):
    """The classifier after its last frozen block.

    Parameters
    ----------
    module : ImageClassifier
        Its backbone's layers from ``first`` on, its normalizer and its head are trained.
    first : int
        The first layer that is trained, by torchvision's number.
    mixed : bool
        Run the backbone's convolutions in bfloat16 where that is safe. The head, which is little work, stays in float32
        and decides as scikit-learn's does.

    Attributes
    ----------
    boundary : int
        The last block that is frozen whole, whose output is this module's input; 0 for images.

    Raises
    ------
    SpecError
        If the backbone ends before ``first``.
    """

    def __init__(self, module: ImageClassifier, first: int, *, mixed: bool = False) -> None:
        super().__init__()
        check_reach(module.spec, first)
        self.module, self.first, self.mixed = module, first, mixed
        self.boundary = frozen_block(first)
        self.start = BLOCKS[self.boundary - 1].stop if self.boundary else 0
        self.trained = tuple(block for block in module.spec.blocks if block > self.boundary)
        for number, layer in enumerate(module.backbone.features):
            layer.requires_grad_(number >= first)
        self._columns = module.spec.slices

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Logits of the boundary's activations, (n, channels, height, width) or uint8 images (n, 3, size, size).

        ``features`` are pooled features (n, columns) as stored, of which those of frozen blocks are used.
        """
        # By where it begins and not by its type: mixed images are no bytes any more.
        x = x if self.boundary else self.module.preprocess(x)
        # Frozen layers after the boundary are in no graph: neither their input nor their weights ask for a gradient.
        with torch.autocast(x.device.type, torch.bfloat16) if self.mixed else nullcontext():
            tapped = self.module.backbone(x, self.start)
        spec = self.module.spec
        pooled = pool_outputs(tapped, spec.select(blocks=self.trained)) if self.trained else {}
        named = {feature_name(*pair): features[:, self._columns[feature_name(*pair)]] for pair in spec.features}
        return self.module.classify(torch.cat(list((named | pooled).values()), dim=1))

    def groups(self, rate: float, factor: float, decay: float) -> list[dict[str, object]]:
        """AdamW's groups: the head at ``rate``, the last convolution at ``factor`` of it, each before × ``decay``."""
        head = [p for part in (self.module.head, self.module.normalizer) for p in part.parameters()]
        layers = [layer for layer in self.module.backbone.features if isinstance(layer, nn.Conv2d)]
        trained = [layer for layer in layers if layer.weight.requires_grad]
        rates = rate * factor * decay ** np.arange(len(trained))[::-1]
        return [
            {"params": head, "lr": rate},
            *({"params": list(layer.parameters()), "lr": float(r)} for layer, r in zip(trained, rates, strict=True)),
        ]


def check_reach(spec: ExtractSpec, first: int) -> None:
    """``SpecError`` if the blocks of a spec end before a layer."""
    last = max(spec.blocks)
    if first >= BLOCKS[last - 1].stop:
        raise SpecError(
            f"--unfreeze of finetune (block5 unless given) must name layers that the model runs, which ends at block "
            f"{last}, got layers from {first} on; give block{last}, or fit a model with --blocks that end at 5"
        )
