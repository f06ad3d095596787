"""The committed networks of the demo fit their loaders and are what they are meant to be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn

from ams_common.classes import CAMVID11, STREET7, UInt8Array
from ams_eval.world.stream import DEMO_STREAM, Phase, StreetConfig, render_stream
from ams_eval.world.styles import DAY, DUSK, familiar_style
from ams_server.networks.efficientvit import efficientvit_seg, load_efficientvit
from ams_server.students.registry import STUDENTS
from ams_server.students.weights import load_pretrained

MODELS = Path(__file__).parents[2] / "evaluation" / "ams_eval" / "demo_models"
TEACHER, STUDENT = MODELS / "street_teacher.safetensors", MODELS / "street_student.safetensors"
FAMILIAR = familiar_style(np.random.default_rng(77))


@pytest.fixture(scope="module")
def teacher() -> nn.Module:
    network = efficientvit_seg("b0", len(STREET7))
    load_efficientvit(network, TEACHER)
    return network.eval()


@pytest.fixture(scope="module")
def student() -> nn.Module:
    network = STUDENTS["jitnet-quarter"].build(len(STREET7))
    load_pretrained(network, STUDENT, STREET7, STREET7)
    return network.eval()


def views(phase: Phase) -> list[tuple[UInt8Array, UInt8Array]]:
    config = StreetConfig(seed=987, width=512, height=288, fps=1, duration_s=6.0, variety=3, phases=(phase,))
    return list(render_stream(config))


def agreement(network: nn.Module, spec: str, size: tuple[int, int], frames: list[tuple[UInt8Array, UInt8Array]]) -> float:
    """Share of pixels with the right label."""
    mean, std = torch.tensor(STUDENTS[spec].mean), torch.tensor(STUDENTS[spec].std)
    images = torch.from_numpy(np.stack([image for image, _ in frames])).float()
    pixels = ((images - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits = network(F.interpolate(pixels, size, mode="bilinear", antialias=True))
        predicted = F.interpolate(logits, images.shape[1:3], mode="bilinear").argmax(1).numpy()
    return float((predicted == np.stack([labels for _, labels in frames])).mean())


@pytest.mark.parametrize("path", [TEACHER, STUDENT])
def test_files_are_small_and_say_what_they_are(path: Path) -> None:
    assert path.stat().st_size < 4_000_000
    with safe_open(path, framework="np") as file:
        about = file.metadata()
        tensors: list[npt.NDArray[np.floating]] = [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118
    assert about["class_set"] == STREET7.name
    assert about["network"] in STUDENTS
    multiple = STUDENTS[about["network"]].size_multiple
    assert int(about["width"]) % multiple == int(about["height"]) % multiple == 0
    assert all(np.isfinite(tensor).all() for tensor in tensors)


def test_the_teacher_knows_a_street_it_has_not_seen_by_day_and_at_dusk(teacher: nn.Module) -> None:
    for light in (DAY, DUSK):
        assert agreement(teacher, "efficientvit-b0", (288, 512), views(Phase(name="", start_s=0.0, light=light))) > 0.93


def test_the_student_is_decent_at_home_and_worse_than_the_teacher_elsewhere(student: nn.Module, teacher: nn.Module) -> None:
    home = agreement(student, "jitnet-quarter", (128, 256), views(Phase(name="", start_s=0.0, light=DAY, style=FAMILIAR)))
    away = views(replace(DEMO_STREAM.phases[-1], start_s=0.0))
    assert home > 0.85
    assert (
        agreement(student, "jitnet-quarter", (128, 256), away) < agreement(teacher, "efficientvit-b0", (288, 512), away) - 0.05
    )


def test_the_student_s_head_is_read_in_another_class_set() -> None:
    network = STUDENTS["jitnet-quarter"].build(len(CAMVID11))
    load_pretrained(network, STUDENT, STREET7, CAMVID11)
