"""The backbone as CUDA runs it fastest: a convolution in one pass over memory, and a batch in one launch.

Of the arithmetic's time that torch's layers leave idle on a large GPU, most goes to three things, and each has its cure
here: bias and ReLU in passes of their own, a first convolution whose three channels are too few for the matrix units,
and some seventy launches a batch for which the thread must take the interpreter's lock from the ones that decode.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from featx.backbones import BLOCKS
from featx.engines.torch_backbone import TorchBackbone

WIDE = 8
"""Pixels of a row that the first convolution takes as one of 24 channels: a multiple of 8, as the matrix units want."""


class FusedBackbone(nn.Module):
    """A backbone for inference, up to the same taps as the `Backbone` that it is made of, whose weights it shares.

    Parameters
    ----------
    backbone : Backbone
        On its device and in its dtype, without layers put before its convolutions.
    wide : bool
        Whether the first convolution takes `WIDE` pixels as one where the width allows: more arithmetic, of which
        matrix units have plenty.
    """

    def __init__(self, backbone: TorchBackbone, *, wide: bool) -> None:
        super().__init__()
        self.taps = set(backbone.taps.values())
        state = backbone.features.state_dict()
        numbers = [number for block in BLOCKS[: max(self.taps)] for number in block.convolutions]
        self._parts = {number: (state[f"{number}.weight"], state[f"{number}.bias"]) for number in numbers}
        self._wide = None
        if wide:
            weight, bias = self._parts[numbers[0]]
            self._wide = widen(weight).to(memory_format=torch.channels_last), bias.repeat(WIDE)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Outputs of the tapped blocks by number; images float (n, 3, height, width) in channels_last order."""
        tapped = {}
        for block in BLOCKS[: max(self.taps)]:
            for number in block.convolutions:
                x = self._convolve(number, x)
            x = halve(x)
            if block.number in self.taps:
                tapped[block.number] = x
        return tapped

    def _convolve(self, number: int, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        if number or self._wide is None or width % WIDE:
            return _conv_relu(x, *self._parts[number])
        # Only the view changes: in channels_last order the pixels of a row lie beside each other.
        x = x.permute(0, 2, 3, 1).reshape(n, height, width // WIDE, WIDE * channels).permute(0, 3, 1, 2)
        y = _conv_relu(x, *self._wide)
        return y.permute(0, 2, 3, 1).reshape(n, height, width, -1).permute(0, 3, 1, 2)


def widen(weight: Tensor) -> Tensor:
    """The kernel of a convolution over `WIDE` pixels at a time: (out, in, 3, 3) to (WIDE·out, WIDE·in, 3, 3).

    Pixel ``p`` of an output takes the input's pixels p - 1 to p + 1, of which the first and the last lie in the pixels
    taken before and after for p = 0 and p = WIDE - 1.
    """
    outputs, inputs, height, width = weight.shape
    wide = weight.new_zeros(WIDE, outputs, WIDE, inputs, height, width)
    for pixel in range(WIDE):
        for offset in range(width):
            taken, source = divmod(pixel + offset - width // 2, WIDE)
            wide[pixel, :, source, :, :, taken + 1] = weight[..., offset]
    return wide.reshape(WIDE * outputs, WIDE * inputs, height, width)


def halve(x: Tensor) -> Tensor:
    """``max_pool2d(x, 2)`` without the positions of the maxima, eight bytes each, which torch writes out on CUDA."""
    height, width = (side // 2 * 2 for side in x.shape[2:])
    rows = torch.maximum(x[:, :, 0:height:2], x[:, :, 1:height:2])
    return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


class Replayed:
    """A function of one CUDA tensor, recorded at its first call and launched as a whole from then on.

    Parameters
    ----------
    function : callable
        From a tensor to a tensor, by kernels alone.
    example : torch.Tensor
        Of the shape and dtype of every input, on the device.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        self._input = example.clone()
        # What is chosen and allocated at a first run must not be recorded.
        stream = torch.cuda.Stream(example.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(example.device))
        with torch.cuda.stream(stream):
            function(self._input)
        torch.cuda.current_stream(example.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads may call CUDA meanwhile.
        with torch.cuda.device(example.device), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = function(self._input)

    def __call__(self, x: Tensor) -> Tensor:
        """The function of ``x``, which may be in pinned memory; the next call overwrites what is returned."""
        self._input.copy_(x, non_blocking=True)
        self._graph.replay()
        return self._output


def _conv_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if x.is_cuda and torch.version.hip is None:
        return torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (1, 1), (1, 1), 1)
    return nn.functional.conv2d(x, weight, bias, padding=1).relu_()
