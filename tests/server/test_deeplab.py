import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ams_server.networks.deeplab import DeepLabV3MobileNetV2, scaled_channels


def _count(module: nn.Module, kind: type[nn.Module]) -> int:
    return sum(p.numel() for layer in module.modules() if isinstance(layer, kind) for p in layer.parameters(recurse=False))


def test_parameters_are_those_of_the_paper() -> None:
    network = DeepLabV3MobileNetV2(19)
    depthwise = sum(layer.weight.numel() for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1)
    assert depthwise == 64_224
    assert _count(network, nn.Conv2d) - depthwise - 19 == 2_015_712
    assert _count(network, nn.BatchNorm2d) == 33_088
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_113_043
    assert sum(buffer.numel() for buffer in network.buffers()) == 33_088


@pytest.mark.parametrize(("decoder", "stride"), [(False, 16), (True, 4)])
def test_logits_have_low_resolution(decoder: bool, stride: int) -> None:
    network = DeepLabV3MobileNetV2(7, width=0.25, decoder=decoder).eval()
    assert network(torch.zeros(2, 3, 64, 96)).shape == (2, 7, 64 // stride, 96 // stride)


def test_one_image_can_be_trained_on_in_training_mode() -> None:
    network = DeepLabV3MobileNetV2(3, width=0.25).train()
    network(torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def _receptive_centre(network: DeepLabV3MobileNetV2, depth: int, side: int = 256) -> tuple[float, float]:
    """Centre of gravity (y, x) of what the middle feature after `depth` blocks sees, with kernels of equal positive weights."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1.0 / layer.weight[0].numel())
    image = torch.full((1, 3, side, side), 0.01, requires_grad=True)
    features: Tensor = network.stem(image)
    for block in network.blocks[:depth]:
        features, _ = block(features)
    height, width = features.shape[2:]
    torch.autograd.backward(features[0, :, height // 2, width // 2].sum())
    assert image.grad is not None
    mass = image.grad.sum((0, 1))
    positions = torch.arange(float(side))
    return ((mass.sum(1) @ positions) / mass.sum()).item(), ((mass.sum(0) @ positions) / mass.sum()).item()


@pytest.mark.parametrize(("decoder", "shift"), [(False, 8), (True, 15)])
def test_where_the_features_lie_in_the_image(decoder: bool, shift: int) -> None:
    network = DeepLabV3MobileNetV2(2, width=0.25, decoder=decoder).eval()
    assert _receptive_centre(network, depth=14) == pytest.approx((8 * 16 + shift, 8 * 16 + shift), abs=0.6)
    assert _receptive_centre(network, depth=14, side=257) == pytest.approx((8 * 16, 8 * 16), abs=0.6)


def test_pooled_features_reach_every_position() -> None:
    network = DeepLabV3MobileNetV2(2, width=0.25).eval()
    image = torch.rand(1, 3, 32, 512, generator=torch.Generator().manual_seed(1), requires_grad=True)
    network(image)[0, 0, 0, 0].backward()
    assert image.grad is not None
    assert image.grad[..., 500:].abs().sum() > 0


def test_decoder_reads_fine_features() -> None:
    network = DeepLabV3MobileNetV2(2, width=0.25, decoder=True).eval()
    nn.init.zeros_(network.concat_projection.norm.weight)
    logits = network(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    coarse = F.interpolate(F.avg_pool2d(logits, 4), scale_factor=4.0)
    assert not torch.allclose(logits, coarse, atol=1e-6)


@pytest.mark.parametrize(("channels", "width", "expected"), [(32, 1.0, 32), (24, 0.5, 16), (16, 0.25, 8), (96, 0.35, 32)])
def test_scaled_channels_are_multiples_of_8(channels: int, width: float, expected: int) -> None:
    assert scaled_channels(channels, width) == expected
