import pathlib
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from ams_common.classes import CAMVID11, CITYSCAPES19, STREET7, ClassSet, SegmentationClass, UInt8Array
from ams_common.errors import ConfigurationError, ModelError
from ams_server.networks.efficientvit import efficientvit_seg
from ams_server.teachers.efficientvit import efficientvit_teacher, fold_batch_norms
from ams_server.teachers.network import IMAGENET_MEAN, IMAGENET_STD, InputSize, NetworkTeacher, network_input
from ams_server.teachers.onnx_model import onnx_teacher

DATA = pathlib.Path(__file__).parents[2].parent / "shared" / "data"
CPU = torch.device("cpu")
SIZE = InputSize(width=128, height=96)


def lively_network(classes: int = 7, seed: int = 0) -> nn.Module:
    """A random network whose batch norms do something, so that folding them is seen, and that gives every class a chance."""
    torch.manual_seed(seed)
    network = efficientvit_seg("b0", classes, "ade20k" if classes == 150 else "cityscapes").eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    *_, last = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    assert last.bias is not None
    with torch.no_grad():
        last.bias -= network(torch.randn(1, 3, 64, 64)).mean(dim=(0, 2, 3))
    return network


def saved(network: nn.Module, folder: Path) -> Path:
    path = folder / "weights.safetensors"
    save_file(network.state_dict(), path)
    return path


def frames(count: int = 2) -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (count, 60, 80, 3), np.uint8)


def labelled(weights: Path, autocast: torch.dtype | None = None) -> UInt8Array:
    return efficientvit_teacher("b0", weights, STREET7, SIZE, CPU, autocast).label(frames(), [0, 1])


def test_folding_changes_logits_by_rounding_only() -> None:
    network = lively_network()
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = network(images)
        fold_batch_norms(network)
        after = network(images)
    assert not [each for each in network.modules() if isinstance(each, nn.BatchNorm2d)]
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_labels_are_those_of_the_plain_network(tmp_path: Path) -> None:
    network = lively_network()
    logits = network(network_input(frames(), (96, 128), IMAGENET_MEAN, IMAGENET_STD, CPU))
    expected = F.interpolate(logits, (60, 80), mode="bilinear").argmax(dim=1).numpy()
    assert len(np.unique(expected)) > 3
    assert (labelled(saved(network, tmp_path)) == expected).mean() > 0.999


def test_bfloat16_changes_few_labels(tmp_path: Path) -> None:
    weights = saved(lively_network(), tmp_path)
    assert 0.7 < (labelled(weights, torch.bfloat16) == labelled(weights)).mean() < 1


def test_150_classes_mean_the_head_of_ade20k(tmp_path: Path) -> None:
    rows = tuple(SegmentationClass(name=str(number), colour=(0, 0, 0)) for number in range(150))
    teacher = efficientvit_teacher("b0", saved(lively_network(150), tmp_path), ClassSet("ade", rows), SIZE, CPU, None)
    assert teacher.label(frames(1), [0]).shape == (1, 60, 80)


def test_sides_that_do_not_fit_the_stride_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="teacher size 100x64: EfficientViT needs multiples of 32"):
        efficientvit_teacher("b0", tmp_path / "none", STREET7, InputSize(width=100, height=64), CPU, None)


def test_weights_for_another_class_set_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the model needs .*: do --teacher and --teacher-classes name what they .*\?$"):
        efficientvit_teacher("b0", saved(lively_network(), tmp_path), CAMVID11, SIZE, CPU, None)


def test_identity_follows_weights_and_settings(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    first, second = saved(lively_network(), tmp_path), saved(lively_network(seed=1), tmp_path / "other")

    def identity(weights: Path, size: InputSize, autocast: torch.dtype | None) -> str:
        return efficientvit_teacher("b0", weights, STREET7, size, CPU, autocast).identity

    variants = {
        identity(first, SIZE, None),
        identity(second, SIZE, None),
        identity(first, InputSize(), None),
        identity(first, SIZE, torch.bfloat16),
    }
    assert len(variants) == 4
    assert identity(first, SIZE, None) in variants


def camvid() -> tuple[UInt8Array, UInt8Array, list[float]]:
    """Every 72nd frame of a drive, its human labels in CAMVID11 (11 for void) and its times."""
    video = DATA / "streams" / "camvid_0016E5_b.mp4"
    if not video.exists():
        pytest.skip(f"{DATA} is absent")
    with av.open(str(video)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][::72]
    human: UInt8Array = np.load(video.with_suffix(".labels.npz"))["labels"][::72]
    return np.stack(pictures).astype(np.uint8), human, [float(72 * index) for index in range(len(pictures))]


def published(size: InputSize) -> tuple[NetworkTeacher, NetworkTeacher]:
    weights = DATA / "models" / "efficientvit_seg_b0_cityscapes.safetensors"
    torch_teacher = efficientvit_teacher("b0", weights, CITYSCAPES19, size, CPU, None)
    ort_teacher = onnx_teacher(weights.with_suffix(".onnx"), CITYSCAPES19, size, IMAGENET_MEAN, IMAGENET_STD, CPU)
    return torch_teacher, ort_teacher


@pytest.mark.data
def test_published_weights_label_real_frames_like_their_onnx_file_and_like_people() -> None:
    images, human, times_s = camvid()
    torch_teacher, ort_teacher = published(InputSize(width=512))
    labels = torch_teacher.label(images, times_s)
    assert (labels == ort_teacher.label(images, times_s)).mean() > 0.9999
    found = CITYSCAPES19.lookup_into(CAMVID11)[labels]
    assert (found == human)[human < len(CAMVID11)].mean() > 0.85
