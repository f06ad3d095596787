import pathlib
from pathlib import Path

import av
import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ams_common.errors import ConfigurationError, ModelError
from ams_server.networks.efficientvit import HeadKind, LinearAttention, efficientvit_seg, load_efficientvit
from ams_server.teachers.network import IMAGENET_MEAN, IMAGENET_STD, network_input

DATA = pathlib.Path(__file__).parents[2].parent / "shared" / "data"
CPU = torch.device("cpu")


def small_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return efficientvit_seg("b0", 3).eval()


def saved(network: nn.Module, folder: Path, **extra: torch.Tensor) -> Path:
    path = folder / "weights.safetensors"
    save_file({**network.state_dict(), **extra}, path)
    return path


@pytest.mark.parametrize(
    ("variant", "head", "millions"),
    [
        ("b0", "cityscapes", 0.71),
        ("b1", "cityscapes", 4.80),
        ("b1", "ade20k", 4.79),
        ("b2", "cityscapes", 15.32),
        ("b3", "cityscapes", 39.60),
        ("b3", "ade20k", 39.55),
        ("l1", "cityscapes", 40.24),
        ("l1", "ade20k", 40.41),
        ("l2", "cityscapes", 52.61),
        ("l2", "ade20k", 51.46),
    ],
)
def test_sizes_are_those_of_the_published_models(variant: str, head: HeadKind, millions: float) -> None:
    with torch.device("meta"):
        network = efficientvit_seg(variant, 19 if head == "cityscapes" else 150, head)
    assert sum(each.numel() for each in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize(
    ("variant", "name", "shape"),
    [
        ("b0", "backbone.input_stem.op_list.1.main.depth_conv.conv.weight", (8, 1, 3, 3)),
        ("b0", "backbone.stages.3.op_list.2.context_module.main.aggreg.0.1.weight", (384, 16, 1, 1)),
        ("b0", "backbone.stages.2.op_list.0.main.inverted_conv.conv.bias", (128,)),
        ("b0", "head.output_ops.0.op_list.1.conv.weight", (19, 128, 1, 1)),
        ("b2", "backbone.stages.2.op_list.4.context_module.main.aggreg.0.1.weight", (576, 32, 1, 1)),
        ("l1", "backbone.stages.0.op_list.1.main.conv2.norm.running_var", (32,)),
        ("l1", "backbone.stages.1.op_list.0.main.spatial_conv.conv.weight", (512, 32, 3, 3)),
        ("l1", "backbone.stages.3.op_list.6.main.depth_conv.conv.bias", (1024,)),
        ("l1", "backbone.stages.4.op_list.0.main.inverted_conv.conv.weight", (6144, 256, 1, 1)),
        ("l2", "backbone.stages.4.op_list.8.local_module.main.point_conv.conv.weight", (512, 3072, 1, 1)),
        ("l2", "head.middle.op_list.4.main.spatial_conv.conv.weight", (256, 256, 3, 3)),
        ("l2", "head.output_ops.0.op_list.0.conv.bias", (19,)),
    ],
)
def test_parameters_carry_the_published_names(variant: str, name: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        state = efficientvit_seg(variant, 19).state_dict()
    assert tuple(state[name].shape) == shape


@pytest.mark.parametrize("variant", ["b0", "l1"])
@torch.inference_mode()
def test_logits_come_at_stride_8(variant: str) -> None:
    logits = efficientvit_seg(variant, 7).eval()(torch.zeros(2, 3, 32, 64))
    assert logits.shape == (2, 7, 4, 8)


def test_state_is_parameters_and_running_statistics_only() -> None:
    state = small_network().state_dict()
    assert all(each.is_floating_point() for each in state.values())
    assert not [name for name in state if "num_batches" in name]


@pytest.mark.parametrize(("variant", "epsilon"), [("b0", 1e-5), ("l1", 1e-7)])
def test_batch_norm_epsilon_is_that_of_the_checkpoints(variant: str, epsilon: float) -> None:
    with torch.device("meta"):
        network = efficientvit_seg(variant, 2)
    assert {each.eps for each in network.modules() if isinstance(each, nn.BatchNorm2d)} == {epsilon}


def test_unknown_variant_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match="'l0': use b0, b1, b2, b3, l1, l2"):
        efficientvit_seg("l0", 19)


def attention(head_channels: int = 4) -> LinearAttention:
    torch.manual_seed(1)
    return LinearAttention(8, head_channels)


def test_attention_is_a_weighted_mean_of_values() -> None:
    qkv = torch.randn(2, 24, 3, 5, generator=torch.Generator().manual_seed(0))
    attended = attention().attend(qkv).reshape(2, 2, 4, 15)
    query, key, value = qkv.reshape(2, 2, 12, 15).chunk(3, dim=2)
    weights = torch.einsum("ngdi,ngdj->ngij", query.relu(), key.relu())
    expected = torch.einsum("ngij,ngdj->ngdi", weights / weights.sum(-1, keepdim=True).clamp(min=1e-15), value)
    torch.testing.assert_close(attended, expected)


def test_attention_of_a_query_without_match_is_zero_with_finite_gradients() -> None:
    qkv = torch.cat((-torch.ones(1, 4, 2, 2), torch.ones(1, 8, 2, 2)), dim=1).requires_grad_()
    attended = attention().attend(qkv)
    attended.sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert torch.equal(attended, torch.zeros(1, 4, 2, 2))
    assert qkv.grad is not None
    assert torch.isfinite(qkv.grad).all()


def test_attention_sums_in_float32_under_autocast() -> None:
    qkv = torch.randn(1, 24, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        attended = attention().attend(qkv)
    torch.testing.assert_close(attended, attention().attend(qkv))


def test_training_moves_every_parameter() -> None:
    network = small_network().train()
    network(torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))).square().mean().backward()
    silent = [name for name, each in network.named_parameters() if each.grad is None or not torch.isfinite(each.grad).all()]
    assert silent == []


def test_weights_survive_a_file(tmp_path: Path) -> None:
    network, other = small_network(0), small_network(1)
    load_efficientvit(other, saved(network, tmp_path, **{"backbone.norm.num_batches_tracked": torch.tensor(5)}))
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(network(images), other(images))


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = saved(small_network(), tmp_path)
    with torch.device("meta"):
        wider, deeper = efficientvit_seg("b1", 3), efficientvit_seg("b0", 3, "ade20k")
    with pytest.raises(ModelError, match=r"of shape \(8, 3, 3, 3\), the model needs \(16, 3, 3, 3\)"):
        load_efficientvit(wider, path)
    with pytest.raises(ModelError, match=r"head.output_ops.0.op_list.0.conv"):
        load_efficientvit(deeper, path)


def test_weights_for_other_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"op_list.1.conv.weight' of shape \(3, 128, 1, 1\), the model needs \(4, 128, 1, 1\)"):
        load_efficientvit(efficientvit_seg("b0", 4), saved(small_network(), tmp_path))


def test_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"other": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"lack 'backbone.input_stem.op_list.0.conv.weight'"):
        load_efficientvit(small_network(), path)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none.safetensors' do not exist"):
        load_efficientvit(small_network(), tmp_path / "none.safetensors")


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\xff" * 64])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a readable safetensors file") as caught:
        load_efficientvit(small_network(), path)
    assert "\n" not in str(caught.value)


@pytest.mark.data
def test_published_weights_give_the_labels_of_their_onnx_file() -> None:
    weights = DATA / "models" / "efficientvit_seg_b0_cityscapes.safetensors"
    video = DATA / "streams" / "camvid_0016E5_b.mp4"
    if not weights.exists() or not video.exists():
        pytest.skip(f"{DATA} is absent")
    network = efficientvit_seg("b0", 19).eval()
    load_efficientvit(network, weights)
    with av.open(str(video)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    frames = np.stack(pictures[::72]).astype(np.uint8)
    images = network_input(frames, (384, 512), IMAGENET_MEAN, IMAGENET_STD, CPU).contiguous()
    session = ort.InferenceSession(weights.with_suffix(".onnx"), providers=["CPUExecutionProvider"])
    expected = np.asarray(session.run(None, {"image": images.numpy()})[0])
    with torch.inference_mode():
        logits = network(images).numpy()
    assert np.abs(logits - expected).max() < 1e-3
    assert (logits.argmax(1) == expected.argmax(1)).all()
