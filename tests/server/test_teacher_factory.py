from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, save
from safetensors.torch import save_file
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from ams_common.classes import CITYSCAPES19, STREET7
from ams_common.errors import ConfigurationError, ModelError
from ams_common.settings import CommandSettings, load_settings
from ams_server.networks.efficientvit import efficientvit_seg
from ams_server.teachers.base import Teacher
from ams_server.teachers.config import TeacherConfig
from ams_server.teachers.factory import create_teacher

CPU = torch.device("cpu")


class Settings(TeacherConfig, CommandSettings):
    """The teacher's settings as a command has them."""


def created(*arguments: str) -> Teacher:
    return create_teacher(load_settings(Settings, arguments), CPU, None)


def assert_labels(teacher: Teacher) -> None:
    labels = teacher.label(np.zeros((2, 33, 47, 3), np.uint8), [0.0, 1.0])
    assert labels.shape == (2, 33, 47)
    assert labels.dtype == np.uint8
    assert labels.max() < len(teacher.classes)


def test_efficientvit(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(efficientvit_seg("b0", 7).state_dict(), path)
    arguments = ("--teacher=efficientvit-b0", f"--teacher-weights={path}", "--teacher-classes=street7")
    teacher = created(*arguments, "--teacher-width=64")
    assert teacher.classes == STREET7
    assert_labels(teacher)


def test_onnx(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 32, 32])
    labels = helper.make_tensor_value_info("labels", TensorProto.INT64, None)
    node = helper.make_node("ArgMax", ["image"], ["labels"], axis=1, keepdims=0)
    graph = helper.make_graph([node], "g", [image], [labels])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "model.onnx")
    teacher = created(f"--teacher=onnx:{tmp_path / 'model.onnx'}", "--teacher-mean=0,-9,0", "--teacher-std=1,1,1")
    assert teacher.classes == CITYSCAPES19
    assert_labels(teacher)
    assert (teacher.label(np.zeros((1, 4, 4, 3), np.uint8), [0]) == 1).all()


def test_hugging_face(tmp_path: Path) -> None:
    config = SegformerConfig(
        num_encoder_blocks=1,
        depths=[1],
        sr_ratios=[1],
        hidden_sizes=[8],
        patch_sizes=[3],
        strides=[4],
        num_attention_heads=[1],
        decoder_hidden_size=8,
        id2label={0: "road", 1: "sky"},
    )
    SegformerForSemanticSegmentation(config).save_pretrained(tmp_path)
    teacher = created(f"--teacher=hf:{tmp_path}", "--teacher-width=64")
    assert teacher.classes.names == ("road", "sky")
    assert_labels(teacher)


def test_labels_on_disk(tmp_path: Path) -> None:
    np.savez(tmp_path / "labels.npz", labels=np.zeros((2, 4, 4), np.uint8))
    assert_labels(created(f"--teacher=labels:{tmp_path / 'labels.npz'}", "--teacher-labels-hz=1"))


@pytest.mark.parametrize("teacher", ["", "deeplab", "hf:", "onnx", "pickle:file", "labels:"])
def test_unknown_teachers_are_refused_with_the_way_out(teacher: str) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown teacher '{teacher}': use efficientvit-b0 to -l2, hf:NAME"):
        created(f"--teacher={teacher}")


def test_settings_that_miss_something_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'efficientvit-b0' needs --teacher-weights"):
        created()
    with pytest.raises(ConfigurationError, match="needs --teacher-labels-hz"):
        created(f"--teacher=labels:{tmp_path}")
    with pytest.raises(ConfigurationError, match="--teacher-weights is for an EfficientViT teacher"):
        created("--teacher=onnx:model.onnx", "--teacher-weights=w.safetensors")
    with pytest.raises(ConfigurationError, match="unknown class set 'martian'"):
        created("--teacher-classes=martian")
    with pytest.raises(ConfigurationError, match="unknown EfficientViT variant 'b9'"):
        created("--teacher=efficientvit-b9", "--teacher-weights=w.safetensors")
    with pytest.raises(ModelError, match=r"w.safetensors' do not exist"):
        created("--teacher-weights=w.safetensors")


@pytest.mark.parametrize(
    "flag", ["--teacher-width=-32", "--teacher-height=100000", "--teacher-labels-hz=0", "--teacher-mean=1,2"]
)
def test_impossible_numbers_are_refused(flag: str) -> None:
    with pytest.raises(ConfigurationError, match=flag.split("=")[0]):
        load_settings(Settings, [flag])
