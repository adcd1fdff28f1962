"""Recipe: every choice of a fine-tuning, checked; and which layers of the backbone it trains."""

from dataclasses import dataclass

from featx.backbones import BLOCKS, CONVOLUTIONS
from featx.errors import SpecError

INITS = ("head", "random")
SCHEDULES = ("cosine", "constant")
OPTIONS = {"random_state": "seed"}
"""Command-line options whose names differ from the fields."""


@dataclass(frozen=True)
class Recipe:
    """How a model is fine-tuned.

    Parameters
    ----------
    hidden, dropout : int, float
        Units of a hidden layer before the classes, 0 for none, and the share of its inputs that is dropped.
    init : str
        New layers compute what the ``head`` does, or start at ``random``.
    head_epochs, epochs : int
        Of stage 1, which trains the head on stored features, and of stage 2, which trains the backbone's last layers too.
    unfreeze : str
        ``block5`` (and all after), ``layers=4`` (the last four convolutions of those that the model runs), ``all`` or
        ``none``.
    lr, backbone_lr_scale, layer_decay : float
        Of the head; that of the backbone as a share of it; and what each earlier convolution's is multiplied by.
    weight_decay, label_smoothing, mixup : float
        Of AdamW; of the cross-entropy; the Beta distribution's parameter, 0 for no mixing.
    schedule : str
        Of learning rates over a stage: ``cosine`` to zero, or ``constant``.
    batch_size, accumulate : int
        Images a pass, and passes a step.
    ema_decay : float
        Decay per step of an exponential moving average of the weights; the average is what is validated. 0 for none.
    patience : int
        Stop a stage after so many epochs without a better validation; 0 for never.
    val_size : float
        Share of the training images that is held out for validation.
    refit : bool
        Once validation has told how many epochs are best, train so many again on all training images.
    from_scratch : bool
        Begin with a random backbone and head, whatever ``init``, for comparison.
    amp : bool, optional
        Train the backbone in mixed precision (bfloat16); by default where that is faster.
    random_state : int

    Raises
    ------
    SpecError
        If a value is out of range; the message names its option.
    """

    hidden: int = 0
    dropout: float = 0.0
    init: str = "head"
    head_epochs: int = 0
    epochs: int = 10
    unfreeze: str = "block5"
    lr: float = 1e-3
    backbone_lr_scale: float = 0.01
    layer_decay: float = 1.0
    weight_decay: float = 1e-4
    label_smoothing: float = 0.0
    mixup: float = 0.0
    schedule: str = "cosine"
    batch_size: int = 16
    accumulate: int = 1
    ema_decay: float = 0.0
    patience: int = 0
    val_size: float = 0.2
    refit: bool = False
    from_scratch: bool = False
    amp: bool | None = None
    random_state: int = 0

    def __post_init__(self) -> None:
        shares = ("dropout", "label_smoothing", "ema_decay")
        numbers = ("hidden", "head_epochs", "epochs", "patience", "random_state", "weight_decay", "mixup")
        checks = [
            *((name, 0 <= getattr(self, name) < 1, "from 0 up to, not including, 1") for name in shares),
            *((name, getattr(self, name) >= 0, "0 or more") for name in numbers),
            *((name, getattr(self, name) >= 1, "1 or more") for name in ("batch_size", "accumulate")),
            *((name, getattr(self, name) > 0, "above 0") for name in ("lr", "backbone_lr_scale", "layer_decay")),
            ("val_size", 0 < self.val_size < 1, "between 0 and 1"),
            ("init", self.init in INITS, f"one of {', '.join(INITS)}"),
            ("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
        ]
        for name, holds, allowed in checks:
            if not holds:
                option = "--" + OPTIONS.get(name, name).replace("_", "-")
                raise SpecError(f"{option} of finetune must be {allowed}, got {getattr(self, name)!r}")
        first_trained(self.unfreeze)
        if self.from_scratch:
            if self.head_epochs or not self.epochs:
                raise SpecError(
                    "--from-scratch of finetune trains backbone and head together: give --epochs and no --head-epochs, "
                    f"got {self.epochs} and {self.head_epochs}"
                )
            object.__setattr__(self, "init", "random")

    def first(self, last_block: int) -> int | None:
        """The first layer that stage 2 trains of a backbone that ends at a block; None if there is no stage 2."""
        return first_trained("all" if self.from_scratch else self.unfreeze, last_block) if self.epochs else None


def first_trained(unfreeze: str, last_block: int = BLOCKS[-1].number) -> int | None:
    """The first layer that is trained of a backbone that ends at a block, by torchvision's number; None if none is.

    ``SpecError`` if ``unfreeze`` is not understood, or the backbone has fewer layers.
    """
    convolutions = [layer for block in BLOCKS[:last_block] for layer in block.convolutions]
    kind, _, number = unfreeze.partition("=") if "=" in unfreeze else (unfreeze[:5], "", unfreeze[5:])
    if unfreeze == "none":
        return None
    if unfreeze == "all":
        return CONVOLUTIONS[0]
    if kind == "block" and number in {str(block.number) for block in BLOCKS}:
        return BLOCKS[int(number) - 1].convolutions[0]
    if kind == "layers" and number.isdecimal() and 1 <= int(number) <= len(convolutions):
        return convolutions[-int(number)]
    raise SpecError(
        f"--unfreeze of finetune must be block1 to block{len(BLOCKS)}, layers=1 to layers={len(convolutions)}, "
        f"all or none, got {unfreeze!r}"
    )


def frozen_block(first: int) -> int:
    """The last block that lies whole before a layer; 0 if none does."""
    return max((block.number for block in BLOCKS if block.stop <= first), default=0)
