import pytest
import torch
from torch import Tensor, nn

from ams_server.networks.jitnet import JitNet


@pytest.mark.parametrize(
    ("width", "parameters", "statistics"), [(1.0, 2_980_931, 4_704), (0.5, 752_251, 2_384), (0.25, 189_883, 1_200)]
)
def test_parameters_at_19_classes(width: float, parameters: int, statistics: int) -> None:
    network = JitNet(19, width=width)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert sum(buffer.numel() for buffer in network.buffers()) == statistics


@pytest.mark.parametrize("width", [1.0, 0.25, 0.1])
def test_logits_have_half_resolution(width: float) -> None:
    assert JitNet(5, width=width).eval()(torch.zeros(2, 3, 64, 96)).shape == (2, 5, 32, 48)


def test_convolutions_cost_what_the_study_counted() -> None:
    """6.65 GFLOP at 512x256, two for each multiplication: here at 64x32, which is a 64th of it."""
    multiplications = 0

    def count(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal multiplications
        assert isinstance(layer, nn.Conv2d)
        multiplications += layer.weight.numel() * output[0, 0].numel()

    network = JitNet(19).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(count)
    network(torch.zeros(1, 3, 32, 64))
    assert 2 * multiplications * 64 == pytest.approx(6.65e9, rel=0.002)


def test_only_the_head_depends_on_the_number_of_classes() -> None:
    few, many = (dict(JitNet(classes, width=0.25).named_parameters()) for classes in (3, 19))
    different = {name for name in few if few[name].shape != many[name].shape}
    assert different == {"logits.weight", "logits.bias"}


def _to_zero(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return torch.zeros_like(output)


@pytest.mark.parametrize("cut", [0, 1])
def test_skip_connections_carry_features_past_the_deeper_blocks(cut: int) -> None:
    network = JitNet(2, width=0.25).eval()
    encoded: list[Tensor] = []

    def keep(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        encoded.append(output)

    network.encoder[1 - cut].register_forward_hook(keep)
    network.decoder[cut].register_forward_hook(_to_zero)
    logits = network(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    (gradient,) = torch.autograd.grad(logits.sum(), encoded, allow_unused=True)
    assert gradient is not None
    assert gradient.abs().sum() > 0


def test_every_parameter_learns() -> None:
    network = JitNet(3, width=0.25).train()
    network(torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
