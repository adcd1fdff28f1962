"""Layers as data: an engine defines how it computes each kind of layer, and one loop applies them in order."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Convolution:
    """A 3 × 3 convolution with bias, stride 1 and padding 1, followed by ReLU.

    ``number`` is the layer number in torchvision's ``vgg16().features``; ``inputs`` and ``outputs`` are numbers of
    channels.
    """

    number: int
    inputs: int
    outputs: int

    @property
    def weight(self) -> str:
        """Name of the kernel, whose axes are OIHW."""
        return f"features.{self.number}.weight"

    @property
    def bias(self) -> str:
        """Name of the bias."""
        return f"features.{self.number}.bias"

    def parameters(self, tensors: Mapping[str, T]) -> tuple[T, T]:
        """Return the kernel and the bias of this layer."""
        return tensors[self.weight], tensors[self.bias]


@dataclass(frozen=True)
class MaxPool:
    """Max pooling over 2 × 2 pixels without overlap. An odd last row or column is dropped."""

    number: int


Layer = Convolution | MaxPool


class LayerOperators(Protocol[T]):
    """Methods by which an engine computes each kind of layer.

    ``T`` is the type that the engine passes from layer to layer. It is a tensor, or a string if the engine builds a
    graph and passes the names of nodes.
    """

    def convolution(self, x: T, layer: Convolution) -> T:
        """Apply a convolution and its ReLU."""

    def max_pool(self, x: T, layer: MaxPool) -> T:
        """Halve the height and the width."""


def apply_layers(layers: Iterable[Layer], x: T, operators: LayerOperators[T]) -> T:
    """Apply layers to ``x``, one after the other."""
    for layer in layers:
        x = operators.convolution(x, layer) if isinstance(layer, Convolution) else operators.max_pool(x, layer)
    return x
