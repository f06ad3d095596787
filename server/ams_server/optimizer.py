"""Optimisers on one flat vector that advance their state for all parameters but move only the chosen ones.

N: trainable parameters. A step is two calls: `accumulate` takes the gradient of all N parameters into the moments, `apply`
moves the weights at the indices. Between the two the indices may be chosen from `update()`.
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ams_common.errors import ModelError
from ams_common.layout import Float32Array
from ams_server.state import State, integer

BETA1 = 0.9
BETA2 = 0.999
EPSILON = 1e-8
MOMENTUM = 0.9
MOST_STEPS = 2**53
"""Steps that a state may tell of."""


class Optimizer(Protocol):
    """What the trainer needs of an optimiser."""

    learning_rate: float
    """Step size of the next steps; no part of the state."""

    def accumulate(self) -> None:
        """Take the present gradient, float32 [N], into the state of all N parameters."""
        ...

    def update(self) -> Tensor:
        """Return u, float32 [N]: what the latest step subtracts, or would subtract, from every parameter."""
        ...

    def apply(self, indices: Tensor | None) -> None:
        """Subtract u from the weights at `indices` (int64 [n], no duplicates); None stands for all."""
        ...

    def squared_gradients(self) -> Tensor:
        """Return about the mean of the squared gradient, float32 [N], up to a factor; not to be changed."""
        ...

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return copies of all that a later `load_state` needs to go on identically."""
        ...

    def load_state(self, state: State) -> None:
        """Go on from `state`; raises ModelError when it does not fit this model."""
        ...


class SparseAdam:
    """Adam whose moments follow all parameters while the weights move only where they are told to (Algorithm 2 of the paper).

    u = learning_rate * sqrt(1 - beta2^i) / (1 - beta1^i) * m / sqrt(v + epsilon), with i counted over all phases; with
    `epsilon_inside_root` false the last divisor is sqrt(v) + epsilon. u is a function of m, v and i, so it is computed where
    it is asked for and never stored.
    """

    def __init__(self, weights: Tensor, gradients: Tensor, *, learning_rate: float, epsilon_inside_root: bool = True) -> None:
        """Optimise `weights`, float32 [N], in place by `gradients` of the same shape and device."""
        self._weights = weights
        self._gradients = gradients
        self.learning_rate = learning_rate
        self._epsilon_inside_root = epsilon_inside_root
        self.first_moment = torch.zeros_like(weights)
        """m, float32 [N]."""
        self.second_moment = torch.zeros_like(weights)
        """v, float32 [N]."""
        self.step_count = 0
        """i, over all phases."""

    def accumulate(self) -> None:
        """Take the present gradient into m and v of all parameters (lines 9 to 11)."""
        self.step_count += 1
        self.first_moment.lerp_(self._gradients, 1 - BETA1)
        self.second_moment.mul_(BETA2).addcmul_(self._gradients, self._gradients, value=1 - BETA2)

    def update(self) -> Tensor:
        """Return u, float32 [N], of the latest step (line 12); zeros before the first."""
        return self._candidate(self.first_moment, self.second_moment)

    def apply(self, indices: Tensor | None) -> None:
        """Subtract u from the weights at `indices`, int64 [n] without duplicates (line 13); None stands for all."""
        if indices is None:
            self._weights.sub_(self.update())
            return
        first, second = self.first_moment.gather(0, indices), self.second_moment.gather(0, indices)
        _subtract_at(self._weights, indices, self._candidate(first, second))

    def squared_gradients(self) -> Tensor:
        """Return v, float32 [N]."""
        return self.second_moment

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return copies of m and v (float32 [N]) and i (int64 scalar)."""
        return {
            "first_moment": _to_array(self.first_moment),
            "second_moment": _to_array(self.second_moment),
            "step_count": np.array(self.step_count, np.int64),
        }

    def load_state(self, state: State) -> None:
        """Go on from `state`.

        Raises:
            ModelError: a part is missing, does not fit or is not finite.
        """
        first, second = (_checked(state, name, self._weights) for name in ("first_moment", "second_moment"))
        step_count = integer(state, "step_count", MOST_STEPS)
        if (second < 0).any():
            raise ModelError("optimiser state has a negative second moment")
        self.first_moment.copy_(first)
        self.second_moment.copy_(second)
        self.step_count = step_count

    def _candidate(self, first: Tensor, second: Tensor) -> Tensor:
        root = second.add(EPSILON).sqrt_() if self._epsilon_inside_root else second.sqrt().add_(EPSILON)
        return torch.div(first, root, out=root).mul_(self._scale())

    def _scale(self) -> float:
        step = max(1, self.step_count)
        return self.learning_rate * float((1 - BETA2**step) ** 0.5 / (1 - BETA1**step))


class SgdMomentum:
    """Gradient descent whose velocity follows all parameters: velocity = 0.9 velocity + g, u = learning_rate * velocity."""

    def __init__(self, weights: Tensor, gradients: Tensor, *, learning_rate: float) -> None:
        """Optimise `weights`, float32 [N], in place by `gradients` of the same shape and device."""
        self._weights = weights
        self._gradients = gradients
        self.learning_rate = learning_rate
        self.velocity = torch.zeros_like(weights)
        """float32 [N]."""

    def accumulate(self) -> None:
        """Take the present gradient into the velocity of all parameters."""
        self.velocity.mul_(MOMENTUM).add_(self._gradients)

    def update(self) -> Tensor:
        """Return u, float32 [N], of the latest step."""
        return self.velocity * self.learning_rate

    def apply(self, indices: Tensor | None) -> None:
        """Subtract u from the weights at `indices`, int64 [n] without duplicates; None stands for all."""
        if indices is None:
            self._weights.sub_(self.velocity, alpha=self.learning_rate)
            return
        _subtract_at(self._weights, indices, self.velocity.gather(0, indices).mul_(self.learning_rate))

    def squared_gradients(self) -> Tensor:
        """Return the squared velocity, float32 [N]."""
        return self.velocity.square()

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return a copy of the velocity, float32 [N]."""
        return {"velocity": _to_array(self.velocity)}

    def load_state(self, state: State) -> None:
        """Go on from `state`.

        Raises:
            ModelError: the velocity is missing, does not fit or is not finite.
        """
        self.velocity.copy_(_checked(state, "velocity", self._weights))


def _subtract_at(weights: Tensor, indices: Tensor, update: Tensor) -> None:
    # gather and scatter_ take half the time of index_add_, and on a GPU they give the same result every time.
    weights.scatter_(0, indices, weights.gather(0, indices).sub_(update))


def _to_array(tensor: Tensor) -> Float32Array:
    array: Float32Array = tensor.to("cpu", copy=True).numpy()
    return array


def _checked(state: State, name: str, like: Tensor) -> Tensor:
    array = state.get(name)
    if array is None or array.shape != like.shape or array.dtype != np.float32:
        raise ModelError(f"optimiser state has no {name!r} of {like.numel()} float32 numbers")
    tensor = torch.tensor(array)
    if not tensor.isfinite().all():
        raise ModelError(f"optimiser state {name!r} holds a number that is not finite")
    return tensor
