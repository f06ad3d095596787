"""The main job on real video, with a real teacher and a real pretrained student."""

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tests.integration.processes import edge, server
from tests.integration.real_inputs import MODELS, STREAMS, require

from ams_common.classes import CAMVID11, UInt8Array
from ams_common.clock import SystemClock
from ams_common.iou import confusion_matrix, mean_iou
from ams_common.settings import load_settings
from ams_edge.camera import CameraConfig, open_camera
from ams_edge.frame import Frame
from ams_edge.runtime_config import RuntimeConfig
from ams_eval.replay import Replay
from ams_server.backend import StartingModel, new_session, starting_model
from ams_server.edge_session import DeviceBudget, EdgeSession
from ams_server.settings import ServerSettings
from ams_server.teachers.base import Teacher
from ams_server.teachers.factory import create_teacher
from ams_server.trainer import compute_dtype

TEACHER = MODELS / "efficientvit_seg_b0_cityscapes.safetensors"
STUDENT = MODELS / "deeplabv3plus_mnv2_ade20k32.safetensors"
CAMVID = STREAMS / "camvid_0016E5_b.mp4"
CAMVID_LABELS = STREAMS / "camvid_0016E5_b.labels.npz"
INDOOR = STREAMS / "intel_one_by_one.mp4"
CPU = torch.device("cpu")

STUDENT_ARGUMENTS = [
    *("--student", "deeplabv3plus-mobilenetv2", "--student-weights", str(STUDENT), "--student-weights-classes", "ade20k32"),
    *("--teacher", "efficientvit-b0", "--teacher-weights", str(TEACHER)),
]
SCORED_EVERY = 4
"""Labels of every fourth original frame are the reference: the teacher takes most of this test's time."""


def frames_of(video: Path) -> Iterator[Frame]:
    with open_camera(CameraConfig(source=str(video), fast=True), SystemClock()) as camera:
        while (frame := camera.read(30)) is not None:
            yield frame


def teacher_labels(teacher: Teacher, model: StartingModel) -> dict[int, UInt8Array]:
    """Return the teacher's labels of the original frames that are scored, in the student's classes, by frame index."""
    table = teacher.classes.lookup_into(model.manifest.classes)
    return {
        frame.index: table[teacher.label(frame.image[None], [frame.capture_time_s])[0]]
        for frame in frames_of(CAMVID)
        if frame.index % SCORED_EVERY == 0
    }


def human_labels(model: StartingModel) -> dict[int, UInt8Array]:
    """Return the human labels of the frames that are scored, in the student's classes, by frame index."""
    table = CAMVID11.lookup_into(model.manifest.classes)
    labels = np.load(CAMVID_LABELS)["labels"]
    return {index: table[labels[index]] for index in range(0, len(labels), SCORED_EVERY)}


def mean_ious(replay: Replay, *references: dict[int, UInt8Array]) -> list[float]:
    """Return the mIoU over the summed confusion of a replay's labels with each of `references`."""
    classes = 7
    matrices = [np.zeros((classes, classes), np.int64) for _ in references]
    for labelled in replay.run(frames_of(CAMVID)):
        for matrix, reference in zip(matrices, references, strict=True):
            if labelled.frame.index in reference:
                expected = reference[labelled.frame.index]
                labels = cv2.resize(labelled.labels, expected.shape[::-1], interpolation=cv2.INTER_NEAREST)
                matrix += confusion_matrix(expected, labels.astype(np.uint8), classes)
    return [mean_iou(matrix) for matrix in matrices]


def camvid_session(settings: ServerSettings, model: StartingModel, teacher: Teacher) -> EdgeSession:
    return new_session(
        settings,
        model,
        teacher=teacher,
        device=CPU,
        clock=SystemClock(),
        device_id="camvid",
        budget=DeviceBudget(uplink_bps=0, downlink_bps=0),
        codec="gap-zstd",
    )


@pytest.fixture
def _all_cores() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.data
@pytest.mark.usefixtures("_all_cores")
def test_adaptation_gains_eight_points_on_a_city_drive() -> None:
    require(CAMVID, CAMVID_LABELS, TEACHER, STUDENT)
    arguments = [
        *STUDENT_ARGUMENTS,
        *("--teacher-width", "960", "--teacher-height", "736", "--frame-width", "480", "--frame-height", "360"),
        *("--class-set", "camvid11", "--classes", "sky,building,road,pavement,tree,car,pedestrian"),
        *("--student-width", "256", "--student-height", "192", "--batch-size", "4", "--steps", "10"),
    ]
    settings = load_settings(ServerSettings, arguments)
    dtype = compute_dtype(settings.precision, CPU)
    teacher = create_teacher(settings, CPU, None if dtype == torch.float32 else dtype)
    model = starting_model(settings)
    references = (teacher_labels(teacher, model), human_labels(model))
    plain = mean_ious(Replay(model, None, RuntimeConfig()), *references)
    adapted = mean_ious(Replay(model, camvid_session(settings, model, teacher), RuntimeConfig()), *references)
    print(f"mIoU against teacher and human labels: {plain} without, {adapted} with adaptation")
    assert adapted[0] >= plain[0] + 0.08
    assert adapted[1] > plain[1]


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
    assert f"the recording has ended: {frames} frames were labelled" in device.log
    assert len(list(frames_of(tmp_path / "overlay.mp4"))) == frames
