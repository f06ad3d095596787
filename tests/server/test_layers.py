import pytest
import torch

from ams_server.networks.layers import BatchNorm, ConvNorm


def test_batch_norm_has_no_state_beside_its_statistics() -> None:
    norm = BatchNorm(5)
    assert sorted(norm.state_dict()) == ["bias", "running_mean", "running_var", "weight"]
    norm.train()(torch.randn(2, 5, 3, 3, generator=torch.Generator().manual_seed(0)))
    assert norm.running_mean is not None
    assert bool((norm.running_mean != 0).all())


def test_batch_norm_trains_on_one_value_per_channel_with_the_running_statistics() -> None:
    norm = BatchNorm(3)
    value = torch.tensor([1.0, -2.0, 3.0]).reshape(1, 3, 1, 1)
    trained = norm.train()(value)
    torch.testing.assert_close(trained, norm.eval()(value))
    trained.sum().backward()
    assert norm.weight.grad is not None


@pytest.mark.parametrize(("padding", "centre"), [("centred", 4), ("end", 5)])
def test_padding_says_which_input_an_output_of_stride_2_is_centred_on(padding: str, centre: int) -> None:
    layer = ConvNorm(1, 1, 3, stride=2, padding=padding, activation="none").eval()  # type: ignore[arg-type]  # parametrised
    torch.nn.init.zeros_(layer.conv.weight)
    with torch.no_grad():
        layer.conv.weight[0, 0, 1, 1] = 1.0
        row = layer(torch.arange(16.0).expand(1, 1, 16, 16))[0, 0, 3]
    assert row.shape == (8,)
    assert row[2].item() == pytest.approx(centre, rel=1e-4)


def test_dilation_keeps_the_size() -> None:
    assert ConvNorm(4, 4, 3, dilation=2, groups=4)(torch.zeros(2, 4, 9, 7)).shape == (2, 4, 9, 7)
