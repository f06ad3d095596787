from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from ams_common.errors import ModelError
from ams_server.optimizer import Optimizer, SgdMomentum, SparseAdam

SHAPES = [(4, 3, 3, 3), (4,), (), (7, 4)]
SIZE = 108 + 4 + 1 + 28


class NaivePerTensor:
    """Lines 8 to 13 of Algorithm 2, tensor by tensor and word by word, in float64."""

    def __init__(self, weights: list[Tensor], *, epsilon_inside_root: bool) -> None:
        self.weights = [weight.double() for weight in weights]
        self.first = [torch.zeros_like(weight) for weight in self.weights]
        self.second = [torch.zeros_like(weight) for weight in self.weights]
        self.updates = [torch.zeros_like(weight) for weight in self.weights]
        self.inside = epsilon_inside_root
        self.step_count = 0

    def step(self, gradients: list[Tensor], masks: list[Tensor]) -> None:
        self.step_count += 1
        rate = 1e-3 * np.sqrt(1 - 0.999**self.step_count) / (1 - 0.9**self.step_count)
        for index, (gradient, mask) in enumerate(zip(gradients, masks, strict=True)):
            wide = gradient.double()
            self.first[index] = 0.9 * self.first[index] + 0.1 * wide
            self.second[index] = 0.999 * self.second[index] + 0.001 * wide**2
            second = self.second[index]
            root = torch.sqrt(second + 1e-8) if self.inside else torch.sqrt(second) + 1e-8
            self.updates[index] = rate * self.first[index] / root
            self.weights[index] = self.weights[index] - self.updates[index] * mask


def joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def pieces(flat: Tensor) -> list[Tensor]:
    sizes = [int(np.prod(shape)) for shape in SHAPES]
    return [part.view(shape) for part, shape in zip(torch.split(flat, sizes), SHAPES, strict=True)]


def gradient_stream(dtype: torch.dtype, seed: int = 5) -> Iterator[Tensor]:
    """Gradients of every magnitude from 1e-9 to 1, some exactly zero."""
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** (-9 * torch.rand(SIZE, generator=generator, dtype=torch.float64))
    scale[::11] = 0
    while True:
        yield (torch.randn(SIZE, generator=generator, dtype=torch.float64) * scale).to(dtype)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_adam_equals_the_naive_reference_while_the_mask_changes(inside: bool, dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(SIZE, generator=generator, dtype=dtype) - 0.5
    gradients = torch.zeros(SIZE, dtype=dtype)
    reference = NaivePerTensor(pieces(weights.clone()), epsilon_inside_root=inside)
    adam = SparseAdam(weights, gradients, learning_rate=1e-3, epsilon_inside_root=inside)
    stream = gradient_stream(dtype)
    for phase in range(12):
        chosen = torch.randperm(SIZE, generator=generator)[: 3 + 5 * phase].sort().values
        mask = torch.zeros(SIZE, dtype=torch.float64).index_fill_(0, chosen, 1.0)
        for _ in range(20):
            gradients.copy_(next(stream))
            adam.accumulate()
            adam.apply(chosen)
            reference.step(pieces(gradients), pieces(mask))
    for mine, theirs in (
        (weights, reference.weights),
        (adam.update(), reference.updates),
        (adam.first_moment, reference.first),
        (adam.second_moment, reference.second),
    ):
        torch.testing.assert_close(mine.double(), joined(theirs), rtol=tolerance, atol=tolerance)


def test_frozen_parameters_stay_bit_for_bit_while_their_moments_and_updates_advance() -> None:
    weights, gradients = torch.rand(SIZE), torch.zeros(SIZE)
    before = weights.clone()
    adam = SparseAdam(weights, gradients, learning_rate=1e-3)
    moved = torch.tensor([3, 50])
    stream = gradient_stream(torch.float32)
    seen = []
    for _ in range(3):
        gradients.copy_(next(stream))
        adam.accumulate()
        adam.apply(moved)
        seen.append((adam.first_moment.clone(), adam.second_moment.clone(), adam.update()))
    frozen = torch.ones(SIZE, dtype=torch.bool).index_fill_(0, moved, False)
    assert torch.equal(weights[frozen], before[frozen])
    assert (weights[moved] != before[moved]).all()
    frozen[::11] = False
    frozen &= gradients.abs() > 1e-6
    for earlier, later in zip(seen[0], seen[2], strict=True):
        assert (earlier[frozen] != later[frozen]).all()


def test_all_indices_are_the_same_as_none() -> None:
    results = []
    for indices in (None, torch.arange(SIZE)):
        weights, gradients = torch.ones(SIZE), next(gradient_stream(torch.float32))
        adam = SparseAdam(weights, gradients, learning_rate=1e-2)
        adam.accumulate()
        adam.apply(indices)
        results.append(weights)
    assert torch.equal(*results)


def test_epsilon_outside_the_root_is_torch_adam() -> None:
    weights, gradients = torch.ones(SIZE), torch.zeros(SIZE)
    adam = SparseAdam(weights, gradients, learning_rate=1e-3, epsilon_inside_root=False)
    parameter = torch.nn.Parameter(torch.ones(SIZE))
    torch_adam = torch.optim.Adam([parameter], lr=1e-3)
    stream = gradient_stream(torch.float32)
    for _ in range(50):
        gradients.copy_(next(stream).sign() * 0.1)
        parameter.grad = gradients.clone()
        adam.accumulate()
        adam.apply(None)
        torch_adam.step()
    torch.testing.assert_close(weights, parameter.detach(), rtol=0, atol=1e-6)


def test_epsilon_inside_the_root_damps_gradients_below_its_floor() -> None:
    gradients = torch.full((1,), 1e-6)
    steps = []
    for inside in (True, False):
        adam = SparseAdam(torch.zeros(1), gradients, learning_rate=1.0, epsilon_inside_root=inside)
        adam.accumulate()
        steps.append(float(adam.update()))
    inside_step, outside_step = steps
    # First step: m = 1e-7, v = 1e-15; the correction is sqrt(0.001) / 0.1.
    assert inside_step == pytest.approx(0.31622777 * 1e-7 / 1e-4, rel=1e-4)
    assert outside_step == pytest.approx(0.31622777 * 1e-7 / (3.1622777e-8 + 1e-8), rel=1e-4)


def test_updates_are_zero_before_the_first_step() -> None:
    assert not SparseAdam(torch.ones(SIZE), torch.ones(SIZE), learning_rate=1.0).update().any()


def test_squared_gradients_are_those_of_late() -> None:
    weights, gradients = torch.ones(SIZE), torch.full((SIZE,), 3.0)
    for optimizer, expected in (
        (SparseAdam(weights, gradients, learning_rate=1.0), 9e-3),
        (SgdMomentum(weights, gradients, learning_rate=1.0), 9.0),
    ):
        assert not optimizer.squared_gradients().any()
        optimizer.accumulate()
        torch.testing.assert_close(optimizer.squared_gradients(), torch.full((SIZE,), expected))


def test_momentum_equals_torch_sgd_at_the_mask() -> None:
    weights, gradients = torch.ones(SIZE), torch.zeros(SIZE)
    sgd = SgdMomentum(weights, gradients, learning_rate=0.1)
    parameter = torch.nn.Parameter(torch.ones(SIZE))
    torch_sgd = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    chosen = torch.arange(0, SIZE, 3)
    stream = gradient_stream(torch.float32)
    for _ in range(30):
        gradients.copy_(next(stream))
        parameter.grad = gradients.clone()
        sgd.accumulate()
        sgd.apply(chosen)
        torch_sgd.step()
    torch.testing.assert_close(weights[::3], parameter.detach()[::3], rtol=0, atol=1e-6)
    assert (weights[1::3] == 1).all()


def test_momentum_moves_all_for_none() -> None:
    weights, gradients = torch.ones(3), torch.tensor([1.0, -2.0, 0.0])
    sgd = SgdMomentum(weights, gradients, learning_rate=0.5)
    for _ in range(2):
        sgd.accumulate()
        sgd.apply(None)
    torch.testing.assert_close(weights, torch.tensor([1 - 0.5 - 0.95, 1 + 1 + 1.9, 1.0]))
    torch.testing.assert_close(sgd.update(), torch.tensor([0.95, -1.9, 0.0]))


def build(kind: str, weights: Tensor, gradients: Tensor) -> Optimizer:
    if kind == "sgd":
        return SgdMomentum(weights, gradients, learning_rate=1e-3)
    return SparseAdam(weights, gradients, learning_rate=1e-3)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_state_goes_on_identically(kind: str) -> None:
    weights, gradients = torch.zeros(SIZE), torch.zeros(SIZE)
    first = build(kind, weights, gradients)
    stream = gradient_stream(torch.float32)
    for _ in range(5):
        gradients.copy_(next(stream))
        first.accumulate()
    second = build(kind, torch.zeros(SIZE), gradients)
    second.load_state(first.state())
    gradients.copy_(next(stream))
    for optimizer in (first, second):
        optimizer.accumulate()
    assert torch.equal(first.update(), second.update())


def test_state_is_a_copy() -> None:
    adam = SparseAdam(torch.zeros(3), torch.ones(3), learning_rate=1.0)
    state = adam.state()
    adam.accumulate()
    assert not state["first_moment"].any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("first_moment", np.zeros(SIZE - 1, np.float32)),
        ("first_moment", np.zeros(SIZE)),
        ("second_moment", np.full(SIZE, np.nan, np.float32)),
        ("second_moment", np.full(SIZE, -1, np.float32)),
        ("step_count", np.array([1, 2])),
        ("step_count", np.array(-1)),
    ],
)
def test_a_foreign_state_is_refused_and_nothing_changes(name: str, value: npt.NDArray[Any]) -> None:
    adam = SparseAdam(torch.zeros(SIZE), torch.ones(SIZE), learning_rate=1.0)
    adam.accumulate()
    state = adam.state()
    with pytest.raises(ModelError):
        adam.load_state({**state, name: value})
    with pytest.raises(ModelError):
        adam.load_state({key: part for key, part in state.items() if key != name})
    np.testing.assert_array_equal(adam.state()["first_moment"], state["first_moment"])
