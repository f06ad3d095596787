import pytest
import torch

from ams_server.networks.layers import BatchNorm, ConvNorm, upsampled


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


@pytest.mark.parametrize(
    ("size", "padding", "centre"), [(16, "centred", 4), (16, "end", 5), (17, "centred", 4), (17, "end", 4)]
)
def test_padding_says_which_input_an_output_of_stride_2_is_centred_on(size: int, padding: str, centre: int) -> None:
    layer = ConvNorm(1, 1, 3, stride=2, padding=padding, activation="none").eval()  # type: ignore[arg-type]  # parametrised
    torch.nn.init.zeros_(layer.conv.weight)
    with torch.no_grad():
        layer.conv.weight[0, 0, 1, 1] = 1.0
        row = layer(torch.arange(float(size)).expand(1, 1, size, size))[0, 0, 3]
    assert row.shape == ((size + 1) // 2,)
    assert row[2].item() == pytest.approx(centre, rel=1e-4)


def test_dilation_keeps_the_size() -> None:
    assert ConvNorm(4, 4, 3, dilation=2, groups=4)(torch.zeros(2, 4, 9, 7)).shape == (2, 4, 9, 7)


def test_upsampling_keeps_features_where_they_lie() -> None:
    columns = torch.tensor([0.0, 4.0, 8.0]).expand(1, 1, 2, 3)
    between = upsampled(columns, 4, corner_to_corner=False)
    corners = upsampled(columns, 4, corner_to_corner=True)
    assert between.shape[2:] == (8, 12)
    assert between[0, 0, 0, 2:10].tolist() == [0.5 + column for column in range(8)]
    assert corners.shape[2:] == (5, 9)
    assert corners[0, 0, 0].tolist() == list(range(9))
