"""The recipe of a fine-tuning: all its options, their checks, and which layers of the backbone are trained."""

from dataclasses import dataclass

from featx.backbones import BLOCKS, CONVOLUTIONS
from featx.errors import SpecError
from featx.runtime import short_repr

INITS = ("head", "random")
SCHEDULES = ("cosine", "constant")
OPTION_NAMES = {"random_state": "seed"}
"""Fields of a recipe whose command-line option has another name."""


@dataclass(frozen=True, repr=False)
class Recipe:
    """How a model is fine-tuned.

    Parameters
    ----------
    hidden : int
        Units of a hidden layer between the features and the classes; 0 for no hidden layer.
    dropout : float
        Dropout probability before the last layer.
    init : {"head", "random"}
        Start the new layers from scikit-learn's head, or from random weights.
    head_epochs : int
        Epochs of stage 1, which trains the head alone. It is fast, because it uses stored features.
    epochs : int
        Epochs of stage 2, which trains the head and the last layers of the backbone.
    unfreeze : str
        Layers of the backbone that stage 2 trains: ``block4`` (that block and all after it), ``layers=4`` (the last
        four convolutions that the model runs), ``all`` or ``none``.
    lr : float
        Learning rate of the head.
    backbone_lr_scale : float
        Learning rate of the backbone's last convolution, as a fraction of ``lr``.
    layer_decay : float
        Each convolution has the learning rate of the convolution after it, times this factor. 1 gives equal rates.
    weight_decay : float
        Weight decay of AdamW.
    label_smoothing : float
        Label smoothing of the cross-entropy.
    mixup : float
        Parameter of the Beta distribution of mixup (Zhang et al. 2018); 0 for no mixup.
    schedule : {"cosine", "constant"}
        Learning rate over a stage: cosine decay to zero, or constant.
    batch_size : int
        Images per forward and backward pass.
    accumulate : int
        Passes per optimizer step (gradient accumulation).
    ema_decay : float
        Decay per step of an exponential moving average (EMA) of the weights. The averaged weights are validated and
        kept. 0 turns averaging off.
    patience : int
        Stop a stage after this many epochs without a better validation score; 0 for no limit.
    val_size : float
        Fraction of the training images that is held out for validation.
    refit : bool
        At the end, train again on all training images, also on those held out, for the best number of epochs.
    from_scratch : bool
        Start from a random backbone and head, for comparison. ``init`` is then ``random``.
    amp : bool, optional
        Run the trained layers of the backbone in mixed precision (bfloat16). The default is True on CUDA devices that
        have bfloat16 and on processors that compute faster in it.
    random_state : int
        Seed of all random numbers of the training.

    Raises
    ------
    SpecError
        If a value is out of range; the message names the option.
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
        for name, in_range, allowed in self._checks():
            if not in_range:
                option = "--" + OPTION_NAMES.get(name, name).replace("_", "-")
                raise SpecError(f"{option} of finetune must be {allowed}, got {getattr(self, name)!r}")
        first_trained_layer(self.unfreeze)
        if self.from_scratch:
            if self.head_epochs or not self.epochs:
                raise SpecError(
                    "--from-scratch of finetune trains backbone and head together: give --epochs and no --head-epochs, "
                    f"got {self.epochs} and {self.head_epochs}"
                )
            object.__setattr__(self, "init", "random")

    def __repr__(self) -> str:
        return short_repr(self)

    def _checks(self) -> list[tuple[str, bool, str]]:
        """Return for each field to check: its name, whether its value is in range, and the range in words."""
        fractions = ("dropout", "label_smoothing", "ema_decay")
        from_zero = ("hidden", "head_epochs", "epochs", "patience", "random_state", "weight_decay", "mixup")
        positive = ("lr", "backbone_lr_scale", "layer_decay")
        return [
            *((name, 0 <= getattr(self, name) < 1, "at least 0 and below 1") for name in fractions),
            *((name, getattr(self, name) >= 0, "at least 0") for name in from_zero),
            *((name, getattr(self, name) >= 1, "at least 1") for name in ("batch_size", "accumulate")),
            *((name, getattr(self, name) > 0, "above 0") for name in positive),
            ("val_size", 0 < self.val_size < 1, "between 0 and 1"),
            ("init", self.init in INITS, f"one of {', '.join(INITS)}"),
            ("schedule", self.schedule in SCHEDULES, f"one of {', '.join(SCHEDULES)}"),
        ]

    def first_trained_layer(self, last_block: int) -> int | None:
        """Return the first trained layer of a backbone that ends at ``last_block``; None if there is no stage 2."""
        if not self.epochs:
            return None
        return first_trained_layer("all" if self.from_scratch else self.unfreeze, last_block)


def first_trained_layer(unfreeze: str, last_block: int = BLOCKS[-1].number) -> int | None:
    """Return torchvision's number of the first trained layer, or None if ``unfreeze`` is ``none``.

    ``last_block`` is the block at which the backbone ends.

    Raises
    ------
    SpecError
        If ``unfreeze`` is not a value that `Recipe` allows, or the backbone has fewer layers.
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


def last_frozen_block(first_layer: int) -> int:
    """Return the number of the last block that ends before a layer, or 0 if no block ends before it."""
    return max((block.number for block in BLOCKS if block.stop <= first_layer), default=0)
