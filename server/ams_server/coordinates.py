"""Which parameters a training phase moves: the strategies of the paper's section 3.1.2 and its Table 3.

N: trainable parameters, in layout order. Every function returns positions in 0..N-1, int64, ascending, on the CPU, and exactly
`count` where it is told how many; random choices come from the generator alone.
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from ams_common.layout import ParameterLayout

Int64Array = npt.NDArray[np.int64]


def coordinate_count(size: int, fraction: float) -> int:
    """Return how many of `size` parameters make up `fraction` of them, at least one."""
    return min(size, max(1, round(size * fraction)))


def largest_coordinates(scores: Tensor, count: int, generator: Generator) -> Int64Array:
    """Return the positions of the `count` largest of `scores`, float32 [N] without NaN, on any device.

    Ties at the threshold are broken by lot, not by position: positions would favour the first layers wherever many scores
    are equal, as Adam's very first updates (all of them +- the learning rate) nearly are.
    """
    threshold = _kth_largest(scores, count)
    above = torch.nonzero(scores > threshold).flatten().cpu()
    equal = torch.nonzero(scores == threshold).flatten().cpu()
    drawn = equal[uniform_coordinates(len(equal), count - len(above), generator)]
    return _ascending(torch.cat([above, drawn]))


def uniform_coordinates(size: int, count: int, generator: Generator) -> Int64Array:
    """Return `count` of `size` positions, drawn uniformly without replacement."""
    if count == size:
        return np.arange(size)
    return _ascending(torch.randperm(size, generator=generator)[:count])


def first_coordinates(size: int, count: int) -> Int64Array:
    """Return the first `count` positions: those nearest the image."""
    assert count <= size
    return np.arange(count)


def last_coordinates(size: int, count: int) -> Int64Array:
    """Return the last `count` positions: those nearest the logits."""
    return np.arange(size - count, size)


def first_and_last_coordinates(size: int, count: int) -> Int64Array:
    """Return `count` positions split equally between both ends; of an odd number the first layers get the extra one."""
    first = first_coordinates(size, count - count // 2)
    return np.concatenate([first, last_coordinates(size, count // 2)])


def biases_and_last_coordinates(layout: ParameterLayout) -> Int64Array:
    """Return where biases and scales (all trainable tensors of one dimension) and the weights of the last layer are."""
    trainable = [number for number, tensor in enumerate(layout.tensors) if tensor.trainable]
    layers = [number for number in trainable if len(layout.tensors[number].shape) > 1]
    wanted = [number for number in trainable if number not in layers[:-1]]
    ranges = [layout.offsets[number] + np.arange(layout.tensors[number].size) for number in wanted]
    return np.concatenate([np.empty(0, np.int64), *ranges])


def _kth_largest(scores: Tensor, count: int) -> Tensor:
    # On a CPU numpy's partition takes a fifth of torch.topk's time; on a GPU topk needs no transfer.
    if scores.is_cuda:
        return torch.topk(scores, count, sorted=False).values.min()
    position = scores.numel() - count
    return torch.tensor(np.partition(scores.numpy(), position)[position])


def _ascending(positions: Tensor) -> Int64Array:
    ordered: Int64Array = torch.sort(positions).values.numpy()
    return ordered
