import numpy as np
import pytest
import torch
from torch import nn

from ams_common.errors import ModelError
from ams_common.layout import Float32Array, ParameterLayout, TensorSpec
from ams_server.flat_model import FlatModel
from ams_server.students.export import student_layout


def small_network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 2, 1))


def flat(module: nn.Module) -> FlatModel:
    return FlatModel(module, student_layout(module))


def numbers(size: int) -> Float32Array:
    return np.random.default_rng(1).standard_normal(size).astype(np.float32)


def test_the_values_stay_and_are_laid_out_parameters_first() -> None:
    module = small_network()
    expected = [parameter.detach().clone().flatten() for parameter in module.parameters()]
    model = flat(module)
    assert model.layout.size == 140 + 10 + 12 + 10
    np.testing.assert_array_equal(model.vector()[:162], torch.cat(expected).numpy())
    np.testing.assert_array_equal(model.vector()[162:], [0.0] * 5 + [1.0] * 5)


def test_module_and_vector_share_memory_both_ways() -> None:
    module = small_network()
    model = flat(module)
    model.weights.fill_(2.0)
    assert all(bool((parameter == 2).all()) for parameter in module.parameters())
    with torch.no_grad():
        next(module.parameters()).fill_(7.0)
    assert model.vector()[:135].tolist() == [7.0] * 135
    assert model.trainable_weights.shape == (162,)


def test_vector_is_a_copy() -> None:
    model = flat(small_network())
    before = model.vector()
    model.weights.zero_()
    assert before.any()


def test_gradients_of_a_backward_pass_land_in_the_flat_vector() -> None:
    module, reference = small_network(), small_network().eval()
    model = flat(module)
    images = torch.randn(2, 3, 6, 6).to(memory_format=torch.channels_last)
    for _ in range(2):
        model.gradients.zero_()
        torch.autograd.backward(module(images).square().sum())
    torch.autograd.backward(reference(images).square().sum())
    expected = torch.cat([parameter.grad.flatten() for parameter in reference.parameters() if parameter.grad is not None])
    torch.testing.assert_close(model.gradients, expected)


def test_load_returns_the_same_vector_and_changes_the_output() -> None:
    module = small_network()
    model = flat(module)
    images = torch.randn(1, 3, 4, 4)
    before = module(images)
    vector = np.abs(numbers(model.layout.size))
    vector.setflags(write=False)
    model.load(vector)
    np.testing.assert_array_equal(model.vector(), vector)
    assert not torch.equal(module(images), before)


@pytest.mark.parametrize("bad", [np.zeros(171, np.float32), np.full(172, np.nan, np.float32), np.full(172, np.inf, np.float32)])
def test_load_refuses_what_does_not_fit_and_keeps_the_state(bad: Float32Array) -> None:
    model = flat(small_network())
    before = model.vector()
    with pytest.raises(ModelError, match=r"fit|finite"):
        model.load(bad)
    np.testing.assert_array_equal(model.vector(), before)


def test_batch_norm_is_frozen() -> None:
    module = small_network().train()
    model = flat(module)
    before = model.vector()
    module(torch.randn(4, 3, 5, 5) + 3)
    np.testing.assert_array_equal(model.vector(), before)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (ParameterLayout((TensorSpec(name="weight", shape=(2, 3)),)), "leaves out the trainable parameter 'bias'"),
        (ParameterLayout((TensorSpec(name="weight", shape=(3, 2)), TensorSpec(name="bias", shape=(2,)))), "'weight'"),
        (
            ParameterLayout(
                (
                    TensorSpec(name="weight", shape=(2, 3)),
                    TensorSpec(name="bias", shape=(2,)),
                    TensorSpec(name="scale", shape=(2,)),
                )
            ),
            "'scale' of shape \\(2,\\), the model has none",
        ),
    ],
)
def test_a_layout_of_another_model_is_refused(layout: ParameterLayout, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        FlatModel(nn.Linear(3, 2), layout)
