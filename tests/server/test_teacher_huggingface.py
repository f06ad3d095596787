import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPTokenizer,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    OneFormerConfig,
    OneFormerForUniversalSegmentation,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SwinConfig,
)

from ams_common.classes import CITYSCAPES19, STREET7, UInt8Array
from ams_common.errors import ConfigurationError, ModelError
from ams_server.teachers.huggingface import class_scores, class_set_of_labels, huggingface_teacher
from ams_server.teachers.network import IMAGENET_MEAN, InputSize, NetworkTeacher

CPU = torch.device("cpu")
SIZE = InputSize(width=64, height=64)
LABELS = {0: "road", 1: "Traffic light", 2: "sidewalk, pavement"}


def segformer_folder(folder: Path, labels: dict[int, str] | None = None) -> Path:
    torch.manual_seed(0)
    config = SegformerConfig(
        num_encoder_blocks=2,
        depths=[1, 1],
        sr_ratios=[2, 1],
        hidden_sizes=[8, 16],
        patch_sizes=[7, 3],
        strides=[4, 2],
        num_attention_heads=[1, 2],
        mlp_ratios=[2, 2],
        decoder_hidden_size=16,
        id2label=labels or LABELS,
    )
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    return folder


def query_model_sizes() -> dict[str, object]:
    backbone = SwinConfig(
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=4,
    )
    backbone.out_features = ["stage1", "stage2", "stage3", "stage4"]
    return {
        "backbone_config": backbone,
        "hidden_dim": 32,
        "encoder_feedforward_dim": 16,
        "dim_feedforward": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "num_attention_heads": 2,
        "num_queries": 5,
        "id2label": LABELS,
    }


def mask2former_folder(folder: Path) -> Path:
    torch.manual_seed(0)
    config = Mask2FormerConfig(feature_size=32, mask_feature_size=32, **query_model_sizes())  # type: ignore[arg-type]
    Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    return folder


def oneformer_folder(folder: Path) -> Path:
    torch.manual_seed(0)
    config = OneFormerConfig(mask_dim=32, conv_dim=32, task_seq_len=9, is_training=False, **query_model_sizes())  # type: ignore[arg-type]
    OneFormerForUniversalSegmentation(config).save_pretrained(folder)
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = [*letters, *(f"{each}</w>" for each in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer.from_pretrained(folder).save_pretrained(folder)
    return folder


def teacher(folder: Path, size: InputSize = SIZE, autocast: torch.dtype | None = None) -> NetworkTeacher:
    return huggingface_teacher(str(folder), None, size, CPU, autocast)


def frames(count: int = 2) -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (count, 40, 50, 3), np.uint8)


@pytest.mark.parametrize("build", [segformer_folder, mask2former_folder, oneformer_folder])
def test_local_folders_label_frames(tmp_path: Path, build: Callable[[Path], Path]) -> None:
    labeller = teacher(build(tmp_path))
    labels = labeller.label(frames(), [0, 1])
    assert labeller.classes.names == ("road", "traffic-light", "sidewalk")
    assert labels.shape == (2, 40, 50)
    assert labels.max() < 3
    np.testing.assert_array_equal(labels, labeller.label(frames(), [0, 1]))


def test_labels_are_those_of_the_model_itself(tmp_path: Path) -> None:
    labeller = teacher(segformer_folder(tmp_path))
    network = SegformerForSemanticSegmentation.from_pretrained(tmp_path)
    image = np.full((1, 64, 64, 3), (200, 100, 50), np.uint8)
    image[:, :32] = 0
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = torch.from_numpy((image / 255 - mean) / std).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        logits = network(pixel_values=pixels).logits
    expected = torch.nn.functional.interpolate(logits, (64, 64), mode="bilinear").argmax(dim=1).numpy()
    assert (labeller.label(image, [0]) == expected).mean() > 0.999


def test_scores_sum_class_times_mask_over_the_queries() -> None:
    generator = torch.Generator().manual_seed(0)
    classes, masks = torch.randn(2, 5, 4, generator=generator), torch.randn(2, 5, 3, 6, generator=generator)
    expected = torch.zeros(2, 3, 3, 6)
    for query in range(5):
        for label in range(3):
            probability = torch.softmax(classes[:, query], dim=-1)[:, label]
            expected[:, label] += probability[:, None, None] * masks[:, query].sigmoid()
    torch.testing.assert_close(class_scores(classes, masks), expected)


@pytest.mark.parametrize(
    ("settings", "mean", "std"),
    [
        ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, 127.5, 63.75),
        ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3, "do_normalize": False}, 0, 255),
        ({"image_mean": [100] * 3, "image_std": [50] * 3, "do_rescale": False}, 100, 50),
        ({"rescale_factor": 0.5}, 0, 2),
    ],
)
def test_pixels_are_as_the_preprocessor_says(tmp_path: Path, settings: dict[str, object], mean: float, std: float) -> None:
    segformer_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    labeller = teacher(tmp_path)
    assert labeller.mean == pytest.approx((mean,) * 3)
    assert labeller.std == pytest.approx((std,) * 3)


def test_pixels_are_those_of_imagenet_without_a_preprocessor(tmp_path: Path) -> None:
    assert teacher(segformer_folder(tmp_path)).mean == IMAGENET_MEAN


def test_a_model_that_wants_bgr_gets_it(tmp_path: Path) -> None:
    segformer_folder(tmp_path)
    settings: dict[str, object] = {"do_normalize": False}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    rgb = teacher(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings | {"do_flip_channel_order": True}))
    bgr = teacher(tmp_path)
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(bgr.infer(images.flip(1)), rgb.infer(images))
        assert not torch.allclose(bgr.infer(images), rgb.infer(images))


def test_classes_are_named_as_in_other_sets() -> None:
    found = class_set_of_labels("m", ["Traffic Light", "tree_trunk; tree", "sidewalk, pavement", "", "car", "car"])
    assert found.names == ("traffic-light", "tree-trunk", "sidewalk", "label-3", "car", "car-5")
    assert found.classes[2].accepts == ("pavement",)
    assert CITYSCAPES19.names.index("traffic-light") == found.lookup_into(CITYSCAPES19)[0]
    assert len({each.colour for each in found.classes}) == 6


def test_the_classes_may_be_given(tmp_path: Path) -> None:
    labels = {number: f"LABEL_{number}" for number in range(7)}
    labeller = huggingface_teacher(str(segformer_folder(tmp_path, labels)), STREET7, SIZE, CPU, None)
    assert labeller.classes == STREET7
    assert labeller.label(frames(), [0, 1]).max() < 7


def test_given_classes_must_fit_the_head(tmp_path: Path) -> None:
    labeller = huggingface_teacher(str(segformer_folder(tmp_path)), STREET7, SIZE, CPU, None)
    with pytest.raises(ModelError, match="gives 3 classes, class set 'street7' has 7"):
        labeller.label(frames(), [0, 1])


def test_bfloat16_weights_and_autocast_work(tmp_path: Path) -> None:
    segformer_folder(tmp_path)
    SegformerForSemanticSegmentation.from_pretrained(tmp_path).bfloat16().save_pretrained(tmp_path)
    for autocast in (None, torch.bfloat16):
        assert teacher(tmp_path, autocast=autocast).label(frames(), [0, 1]).shape == (2, 40, 50)


def test_identity_follows_weights_and_settings(tmp_path: Path) -> None:
    folder = segformer_folder(tmp_path)
    first = teacher(folder).identity
    assert teacher(folder).identity == first
    weights = load_file(folder / "model.safetensors")
    weights["decode_head.classifier.bias"] += 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert len({first, teacher(folder).identity, teacher(folder, InputSize()).identity}) == 3


def one_line_error(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        teacher(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_without_configuration_is_refused(tmp_path: Path) -> None:
    assert f"teacher hf:{tmp_path} cannot be loaded" in one_line_error(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "cannot be loaded" in one_line_error(tmp_path / "none")


def test_a_model_of_another_task_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    assert "'bert' is not a model for semantic or universal segmentation" in one_line_error(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    weights = load_file(segformer_folder(tmp_path) / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    assert "safetensors" in one_line_error(tmp_path)


def test_incomplete_weights_are_refused(tmp_path: Path) -> None:
    path = segformer_folder(tmp_path) / "model.safetensors"
    save_file({key: value for key, value in load_file(path).items() if "classifier" not in key}, path, {"format": "pt"})
    assert "weights lack 'decode_head.classifier.bias'" in one_line_error(tmp_path)


def test_broken_weights_are_refused(tmp_path: Path) -> None:
    (segformer_folder(tmp_path) / "model.safetensors").write_bytes(b"\xff" * 64)
    assert "cannot be loaded" in one_line_error(tmp_path)


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "ams_server.teachers.huggingface")
    module = importlib.import_module("ams_server.teachers.huggingface")
    with pytest.raises(ConfigurationError, match=r"needs transformers: install adaptive-model-streaming\[zoo\]"):
        module.huggingface_teacher("name", None, SIZE, CPU, None)
