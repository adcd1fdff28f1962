"""The backbone in the form that runs fastest on CUDA.

torch's own layers leave a large GPU idle for three reasons, and this module removes them:

- Bias and ReLU each read and write the whole feature map again. Here, one call computes convolution, bias and ReLU.
- The first convolution has three input channels, which are too few for the matrix units. Here, it treats several pixels
  of a row as one pixel with more channels.
- Each batch needs about 70 kernel launches. Each launch needs the interpreter's lock, which the decoding threads also
  need. Here, a CUDA graph launches all kernels together.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from featx.backbones import BLOCKS, Convolution, MaxPool, run_blocks
from featx.engines.torch_backbone import TorchBackbone

WIDE = 8
"""Number of pixels of a row that the first convolution treats as one pixel. Together they have 24 channels, which suits
the matrix units, because they need a multiple of 8."""


class FusedBackbone(nn.Module):
    """A `TorchBackbone` for inference on CUDA, with the same weights and outputs.

    Its methods are those of `featx.backbones.LayerOperators`.

    Parameters
    ----------
    backbone : TorchBackbone
        The backbone, which is already on its device, in its dtype and not quantized.
    wide : bool
        Whether the first convolution treats `WIDE` pixels of a row as one, if the width is a multiple of `WIDE`. It
        then computes more products, but on matrix units, which are much faster.
    """

    def __init__(self, backbone: TorchBackbone, *, wide: bool) -> None:
        super().__init__()
        self.blocks = backbone.blocks
        state = backbone.features.state_dict()
        numbers = [number for block in BLOCKS[: max(self.blocks)] for number in block.convolutions]
        self._parameters_of = {number: (state[f"{number}.weight"], state[f"{number}.bias"]) for number in numbers}
        self._wide = None
        if wide:
            weight, bias = self._parameters_of[numbers[0]]
            self._wide = widen_kernel(weight).to(memory_format=torch.channels_last), bias.repeat(WIDE)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Compute the outputs of the requested blocks, by block number.

        ``x`` holds preprocessed images as floats (n, 3, height, width) in channels_last order.
        """
        return run_blocks(self.blocks, x, self)

    def convolution(self, x: Tensor, layer: Convolution) -> Tensor:
        """Apply a convolution and its ReLU."""
        n, channels, height, width = x.shape
        if layer.number or self._wide is None or width % WIDE:
            return _conv_relu(x, *self._parameters_of[layer.number])
        # Reshaping copies nothing, because in channels_last order the pixels of a row are adjacent in memory.
        x = x.permute(0, 2, 3, 1).reshape(n, height, width // WIDE, WIDE * channels).permute(0, 3, 1, 2)
        y = _conv_relu(x, *self._wide)
        return y.permute(0, 2, 3, 1).reshape(n, height, width, -1).permute(0, 3, 1, 2)

    def max_pool(self, x: Tensor, layer: MaxPool) -> Tensor:
        """Halve the height and the width."""
        return max_pool_2x2(x)


def widen_kernel(weight: Tensor) -> Tensor:
    """Make the kernel of a 3 × 3 convolution that treats `WIDE` pixels of a row as one.

    Output pixel ``p`` of a group needs the input pixels ``p - 1`` to ``p + 1``. For the first and the last pixel of the
    group, one of these input pixels is in the neighbouring group. The wide kernel reads that group at its left or right
    position.

    Parameters
    ----------
    weight : tensor (outputs, inputs, 3, 3)
        The kernel.

    Returns
    -------
    tensor (WIDE × outputs, WIDE × inputs, 3, 3)
        The kernel of a convolution over groups of pixels.
    """
    outputs, inputs, height, width = weight.shape
    wide = weight.new_zeros(WIDE, outputs, WIDE, inputs, height, width)
    for pixel in range(WIDE):
        for offset in range(width):
            group, source = divmod(pixel + offset - width // 2, WIDE)
            wide[pixel, :, source, :, :, group + 1] = weight[..., offset]
    return wide.reshape(WIDE * outputs, WIDE * inputs, height, width)


def max_pool_2x2(x: Tensor) -> Tensor:
    """Compute ``max_pool2d(x, 2)`` faster than torch, which on CUDA also writes the positions of the maxima."""
    height, width = (side // 2 * 2 for side in x.shape[2:])
    rows = torch.maximum(x[:, :, 0:height:2], x[:, :, 1:height:2])
    return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


class GraphedFunction:
    """A function of one CUDA tensor that is recorded as a CUDA graph, so that each call launches all kernels at once.

    Parameters
    ----------
    function : callable
        The function. It takes and returns one tensor, and runs only CUDA kernels.
    example : torch.Tensor
        A tensor on the device. Every later input must have its shape and dtype.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor) -> None:
        self._input = example.clone()
        # The first run selects algorithms and allocates memory, which must not be recorded.
        stream = torch.cuda.Stream(example.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(example.device))
        with torch.cuda.stream(stream):
            function(self._input)
        torch.cuda.current_stream(example.device).wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        # "thread_local", because other threads may call CUDA during the recording.
        with torch.cuda.device(example.device), torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._output = function(self._input)

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the function of ``x``, which may be in pinned memory. The next call overwrites the result."""
        self._input.copy_(x, non_blocking=True)
        self._graph.replay()
        return self._output


def _conv_relu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if x.is_cuda and torch.version.hip is None:
        return torch.cudnn_convolution_relu(x, weight, bias, (1, 1), (1, 1), (1, 1), 1)
    return nn.functional.conv2d(x, weight, bias, padding=1).relu_()
