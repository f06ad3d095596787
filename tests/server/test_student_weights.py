import contextlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from ams_common.classes import ADE20K32, CAMVID11, CITYSCAPES19, STREET7, VOC21, ClassSet
from ams_common.errors import ModelError
from ams_server.networks.deeplab import DeepLabV3MobileNetV2
from ams_server.networks.jitnet import JitNet
from ams_server.students.weights import load_pretrained, save_weights

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def _small(classes: ClassSet, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    network = JitNet(len(classes), width=0.1)
    for buffer in network.buffers():
        nn.init.uniform_(buffer, 0.5, 1.5)
    return network.eval()


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_saved_weights_load_exactly(tmp_path: Path) -> None:
    saved, loaded = _small(STREET7, 0), _small(STREET7, 1)
    save_weights(saved, tmp_path / "w.safetensors")
    load_pretrained(loaded, tmp_path / "w.safetensors", STREET7, STREET7)
    for name, tensor in saved.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


def test_loading_keeps_the_parameters_where_they_are_in_memory(tmp_path: Path) -> None:
    """The trainer's parameters are views of one vector."""
    network = _small(STREET7)
    pointers = [parameter.data_ptr() for parameter in network.parameters()]
    save_weights(network, tmp_path / "w.safetensors")
    load_pretrained(network, tmp_path / "w.safetensors", STREET7, STREET7)
    assert [parameter.data_ptr() for parameter in network.parameters()] == pointers


def test_batch_counters_of_other_tools_are_left_out(tmp_path: Path) -> None:
    network = _small(STREET7)
    state = _state(network) | {"encoder.0.norm.num_batches_tracked": torch.tensor(7)}
    save_file(state, tmp_path / "w.safetensors")
    load_pretrained(network, tmp_path / "w.safetensors", STREET7, STREET7)


def test_half_precision_weights_load(tmp_path: Path) -> None:
    network = _small(STREET7)
    save_file({name: tensor.bfloat16() for name, tensor in _state(network).items()}, tmp_path / "w.safetensors")
    load_pretrained(network, tmp_path / "w.safetensors", STREET7, STREET7)
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}


def test_head_is_translated_by_class_name(tmp_path: Path) -> None:
    source, target = _small(CITYSCAPES19, 0), _small(CAMVID11, 1)
    save_weights(source, tmp_path / "w.safetensors")
    load_pretrained(target, tmp_path / "w.safetensors", CITYSCAPES19, CAMVID11)
    given_rows, rows = source.state_dict()["logits.weight"], target.state_dict()["logits.weight"]
    torch.testing.assert_close(rows[CAMVID11.names.index("sky")], given_rows[CITYSCAPES19.names.index("sky")])
    parts = [CITYSCAPES19.names.index(name) for name in ("car", "truck", "bus", "train")]
    torch.testing.assert_close(rows[CAMVID11.names.index("car")], given_rows[parts].mean(0))
    assert torch.equal(source.state_dict()["stem.0.conv.weight"], target.state_dict()["stem.0.conv.weight"])


def test_class_without_a_source_starts_as_the_average_and_from_the_seed(tmp_path: Path) -> None:
    source = _small(VOC21)
    save_weights(source, tmp_path / "w.safetensors")
    heads = []
    for seed in (3, 3, 4):
        target = _small(STREET7)
        load_pretrained(target, tmp_path / "w.safetensors", VOC21, STREET7, seed=seed)
        heads.append(target.state_dict()["logits.weight"].clone())
    sky = STREET7.names.index("sky")
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0][sky], heads[2][sky])
    torch.testing.assert_close(heads[0][sky], source.state_dict()["logits.weight"].mean(0), atol=0.06, rtol=0)


def test_folded_batch_norm_becomes_the_identity_plus_a_bias(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    network = DeepLabV3MobileNetV2(21, width=0.25).eval()
    folded: dict[str, Tensor] = {}
    for name, parameter in network.named_parameters():
        if name.startswith("logits."):
            folded[name] = torch.randn(parameter.shape, generator=generator)
        elif name.endswith(".conv.weight"):
            layer = name.removesuffix(".conv.weight")
            folded[f"{layer}.weight"] = torch.randn(parameter.shape, generator=generator)
            folded[f"{layer}.bias"] = torch.randn(parameter.shape[0], generator=generator)
    save_file(folded, tmp_path / "w.safetensors")
    load_pretrained(network, tmp_path / "w.safetensors", VOC21, VOC21)
    image = torch.randn(1, 3, 32, 32, generator=generator)
    expected = F.relu6(F.conv2d(image, folded["stem.weight"], folded["stem.bias"], stride=2, padding=1))
    torch.testing.assert_close(network.stem(image), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"logits.bias": None}, r"lack the tensor 'logits.bias': are they those of another --student\?$"),
        ({"dec0_dw.weight": torch.zeros(3)}, r"foreign tensor 'dec0_dw.weight': are they those of another --student\?$"),
        ({"tail.1.norm.bias": torch.zeros(3)}, r"tensor 'tail.1.norm.bias' has shape \(3,\) instead of \(8,\)"),
        (
            {"logits.bias": torch.zeros(19)},
            r"tensor 'logits.bias' has shape \(19,\) instead of \(7,\): its head tells 19 .* cityscapes19",
        ),
        ({"logits.bias": torch.zeros(20)}, "its head tells 20 classes apart, .* with --student-weights-classes$"),
        ({"logits.bias": torch.zeros(7, 2)}, r"tensor 'logits.bias' has shape \(7, 2\) instead of \(7,\)$"),
        ({"logits.bias": torch.full((7,), torch.nan)}, "tensor 'logits.bias' holds values that are not finite"),
    ],
)
def test_weights_of_another_architecture_change_nothing(tmp_path: Path, change: dict[str, Tensor | None], message: str) -> None:
    network = _small(STREET7)
    before = _state(network)
    state = {name: tensor for name, tensor in (before | change).items() if tensor is not None}
    save_file({name: tensor + 1 for name, tensor in state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=message) as caught:
        load_pretrained(network, tmp_path / "w.safetensors", STREET7, STREET7)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(tensor, network.state_dict()[name]) for name, tensor in before.items())


def test_missing_file_and_unwritable_folder_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read weights '.*none.safetensors'"):
        load_pretrained(_small(STREET7), tmp_path / "none.safetensors", STREET7, STREET7)
    with pytest.raises(ModelError, match="cannot write weights"):
        save_weights(_small(STREET7), tmp_path / "none" / "w.safetensors")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 1500), replacement=st.binary(max_size=12), length=st.integers(0, 4000))
def test_damaged_files_are_refused_or_load(tmp_path: Path, position: int, replacement: bytes, length: int) -> None:
    network = _small(STREET7)
    path = tmp_path / "w.safetensors"
    save_weights(network, path)
    data = path.read_bytes()
    path.write_bytes((data[:position] + replacement + data[position + len(replacement) :])[: len(data) - length])
    with contextlib.suppress(ModelError):
        load_pretrained(network, path, STREET7, STREET7)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())


def _iou_on_camvid(network: nn.Module, classes: ClassSet, names: tuple[str, ...]) -> dict[str, float]:
    """Intersection over union of the named CamVid classes against the human labels, over four frames of one drive."""
    labels = np.load(DATA / "streams" / "camvid_0016E5_b.labels.npz")["labels"]
    into_camvid = classes.lookup_into(CAMVID11)
    confusion = np.zeros((256, 256), np.int64)
    with av.open(str(DATA / "streams" / "camvid_0016E5_b.mp4")) as video:
        for index, frame in enumerate(video.decode(video=0)):
            if index % 36:
                continue
            pixels = cv2.resize(frame.to_ndarray(format="rgb24"), (512, 256), interpolation=cv2.INTER_AREA)
            image = torch.from_numpy(pixels / np.float32(127.5) - 1).permute(2, 0, 1)[None]
            with torch.no_grad():
                logits = F.interpolate(network(image), size=(360, 480), mode="bilinear", align_corners=False)
            predicted = into_camvid[logits[0].argmax(0).numpy()]
            pairs = labels[index].astype(np.int64) * 256 + predicted
            confusion += np.bincount(pairs.ravel(), minlength=confusion.size).reshape(confusion.shape)
    confusion[len(CAMVID11)] = 0
    result = {}
    for name in names:
        label = CAMVID11.names.index(name)
        union = confusion[label].sum() + confusion[:, label].sum() - confusion[label, label]
        result[name] = float(confusion[label, label] / union)
    return result


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="no real video and weights beside the repository")
def test_public_ade20k_weights_segment_streets() -> None:
    network = DeepLabV3MobileNetV2(32, decoder=True).eval()
    load_pretrained(network, DATA / "models" / "deeplabv3plus_mnv2_ade20k32.safetensors", ADE20K32, ADE20K32)
    names = ("sky", "building", "road", "pavement", "tree", "car", "pedestrian")
    found = _iou_on_camvid(network, ADE20K32, names)
    assert np.mean(list(found.values())) > 0.6, found


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason="no real video and weights beside the repository")
def test_public_voc_weights_find_cars() -> None:
    network = DeepLabV3MobileNetV2(21).eval()
    load_pretrained(network, DATA / "models" / "deeplabv3_mnv2_voc21.safetensors", VOC21, VOC21)
    assert _iou_on_camvid(network, VOC21, ("car",))["car"] > 0.65
