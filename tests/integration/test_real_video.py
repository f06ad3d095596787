"""The main job on real video, with a real teacher and a real pretrained student."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.integration.processes import edge, server
from tests.integration.real_inputs import MODELS, STREAMS, require

from ams_common.clock import SystemClock
from ams_edge.camera import CameraConfig, open_camera
from ams_edge.frame import Frame
from ams_eval.outcome_files import read_outcome
from ams_eval.run import run

TEACHER = MODELS / "efficientvit_seg_b0_cityscapes.safetensors"
STUDENT = MODELS / "deeplabv3plus_mnv2_ade20k32.safetensors"
CAMVID = STREAMS / "camvid_0016E5_b.mp4"
CAMVID_LABELS = STREAMS / "camvid_0016E5_b.labels.npz"
INDOOR = STREAMS / "intel_one_by_one.mp4"

STUDENT_ARGUMENTS = [
    *("--student", "deeplabv3plus-mobilenetv2", "--student-weights", str(STUDENT), "--student-weights-classes", "ade20k32"),
    *("--teacher", "efficientvit-b0", "--teacher-weights", str(TEACHER)),
]


def frames_of(video: Path) -> Iterator[Frame]:
    with open_camera(CameraConfig(source=str(video), fast=True), SystemClock()) as camera:
        while (frame := camera.read(30)) is not None:
            yield frame


@pytest.fixture
def _all_cores() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.data
@pytest.mark.usefixtures("_all_cores")
def test_adaptation_gains_eight_points_on_a_city_drive(tmp_path: Path) -> None:
    require(CAMVID, CAMVID_LABELS, TEACHER, STUDENT)
    arguments = [
        *(str(CAMVID), "--label-classes", "camvid11", "--scored-hz", "0.25", "--label-cache", "none"),
        *("--out", str(tmp_path), "--schemes", "none,ams"),
        *STUDENT_ARGUMENTS,
        *("--teacher-width", "960", "--teacher-height", "736", "--frame-width", "480", "--frame-height", "360"),
        *("--class-set", "camvid11", "--classes", "sky,building,road,pavement,tree,car,pedestrian"),
        *("--student-width", "256", "--student-height", "192", "--batch-size", "4", "--steps", "10"),
    ]
    assert run(arguments) == 0
    plain, adapted = (read_outcome(next((tmp_path / "runs").glob(f"*--{scheme}--*"))) for scheme in ("none", "ams"))
    assert plain.human is not None
    assert adapted.human is not None
    assert len(adapted.teacher.times_s) == 36
    mious = [score.miou() for score in (plain.teacher, adapted.teacher, plain.human, adapted.human)]
    print(f"mIoU without and with adaptation against the teacher, then against human labels: {mious}")
    assert mious[1] >= mious[0] + 0.08
    assert mious[3] > mious[2]


@pytest.mark.data
def test_an_indoor_camera_runs_through_both_processes(tmp_path: Path) -> None:
    require(INDOOR, TEACHER, STUDENT)
    arguments = [
        *STUDENT_ARGUMENTS,
        *("--teacher-width", "384", "--class-set", "cityscapes19", "--classes", "road,building,person"),
        *("--student-width", "160", "--student-height", "96", "--batch-size", "2", "--steps", "3", "--threads", "1"),
    ]
    with server(tmp_path / "server", arguments) as (serving, address):
        source = ["--source", str(INDOOR), "--fast", "--overlay", str(tmp_path / "overlay.mp4")]
        with edge(tmp_path / "edge", address, tmp_path / "state", source) as device:
            assert device.wait(400) == 0, device.log
        assert device.events("swap"), device.log
        assert not device.events("refused")
        assert serving.terminate() == 0, serving.log
        assert "Traceback" not in serving.log + device.log
    frames = len(list(frames_of(INDOOR)))
    assert "the recording has ended" in device.log
    assert f"{frames} frames labelled, " in device.log
    assert len(list(frames_of(tmp_path / "overlay.mp4"))) == frames
