"""The product as its users run it: two processes and a socket between them."""

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.integration.processes import edge, server
from tests.integration.scene import HEIGHT, ROAD, SKY, WIDTH, scene_labels, write_scene

from ams_common.iou import confusion_matrix, mean_iou

RATE_HZ = 10
FRAMES = 200


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    write_scene(folder / "video.mp4", folder / "labels.npz", frames=FRAMES, rate_hz=RATE_HZ)
    return folder


def server_arguments(scene: Path) -> list[str]:
    return [
        *("--teacher", f"labels:{scene / 'labels.npz'}", "--teacher-classes", "street7", "--teacher-labels-hz", str(RATE_HZ)),
        *("--class-set", "street7", "--classes", "road,sky", "--student", "jitnet-quarter"),
        *("--student-width", str(WIDTH), "--student-height", str(HEIGHT)),
        *("--update-interval-s", "2", "--steps", "20", "--batch-size", "4", "--learning-rate", "0.003", "--fraction", "0.2"),
        *("--threads", "1"),
    ]


def mean_iou_of(folder: Path, first: int, last: int) -> float:
    """Return the mIoU of the label maps that the edge wrote for frames `first` to `last`, against the scene's labels."""
    matrix = np.zeros((2, 2), np.int64)
    with (folder / "index.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            index = int(row["frame_index"])
            if first <= index < last:
                predicted = cv2.imread(str(folder / row["file"]), cv2.IMREAD_GRAYSCALE)
                assert predicted is not None
                reference = (scene_labels(index) == SKY).astype(np.uint8)
                matrix += confusion_matrix(reference, predicted.astype(np.uint8), 2)
    assert matrix.sum() > 0, f"no label maps of frames {first} to {last}"
    return mean_iou(matrix)


def test_labels_become_better_over_a_real_connection(scene: Path, tmp_path: Path) -> None:
    assert (ROAD, SKY) == (0, 4)  # the student's classes are road and sky, in this order
    with server(tmp_path / "server", server_arguments(scene)) as (serving, address):
        arguments = ["--source", str(scene / "video.mp4"), "--labels", str(tmp_path / "labels")]
        with edge(tmp_path / "edge", address, tmp_path / "state", arguments) as device:
            assert device.wait(120) == 0, device.log
        swaps = device.events("swap")
        assert [swap["version"] for swap in swaps] == list(range(1, len(swaps) + 1))
        assert len(swaps) >= 3
        assert not device.events("refused")
        assert serving.terminate() == 0, serving.log
    before = mean_iou_of(tmp_path / "labels", 0, 10)
    after = mean_iou_of(tmp_path / "labels", FRAMES - 50, FRAMES)
    assert after > before + 0.2, f"mIoU {before:.3f} at the start, {after:.3f} at the end"


def test_the_edge_runs_on_without_its_server_and_after_a_restart(scene: Path, tmp_path: Path) -> None:
    video = ["--source", str(scene / "video.mp4")]
    with (
        server(tmp_path / "server", server_arguments(scene)) as (serving, address),
        edge(tmp_path / "edge", address, tmp_path / "state", video) as device,
    ):
        device.wait_for("swap")
        serving.process.kill()
        device.wait_for("disconnected")
        frames_then = sum(int(str(each["frames"])) for each in device.events("statistics"))
        assert device.wait(60) == 0, device.log
        assert sum(int(str(each["frames"])) for each in device.events("statistics")) > frames_then
        version = device.events("swap")[-1]["version"]
    with edge(
        tmp_path / "again", address, tmp_path / "state", [*video, "--fast", "--labels", str(tmp_path / "labels")]
    ) as device:
        assert device.wait(60) == 0, device.log
        assert f"version {version} of the last run's model runs" in device.log
    assert len(list((tmp_path / "labels").glob("*.png"))) == FRAMES


def test_an_edge_that_comes_back_continues_its_session(scene: Path, tmp_path: Path) -> None:
    video = ["--source", str(scene / "video.mp4")]
    with server(tmp_path / "server", server_arguments(scene)) as (serving, address):
        with edge(tmp_path / "first", address, tmp_path / "state", video) as device:
            device.wait_for("swap", 2)
            assert device.terminate() == 0, device.log
            version = int(str(device.events("swap")[-1]["version"]))
        with edge(tmp_path / "second", address, tmp_path / "state", video) as device:
            first = int(str(device.wait_for("swap")[0]["version"]))
            assert device.terminate() == 0, device.log
        assert first > version
        assert serving.log.count("a whole model") == 1
        assert not device.events("refused")


def test_just_in_time_distillation_learns_frame_by_frame(scene: Path, tmp_path: Path) -> None:
    scheme = ["--scheme", "jit", "--jit-camera-hz", str(RATE_HZ), "--jit-min-stride", "2", "--jit-accuracy", "0.9"]
    arguments = [*server_arguments(scene), *scheme, "--jit-learning-rate", "0.003"]
    with (
        server(tmp_path / "server", arguments) as (serving, address),
        edge(tmp_path / "edge", address, tmp_path / "state", ["--source", str(scene / "video.mp4")]) as device,
    ):
        swaps = device.wait_for("swap", 2)
        batches = serving.wait_for("batch", 8)
        assert device.terminate() == 0, device.log
        assert serving.terminate() == 0, serving.log
    assert [swap["version"] for swap in swaps] == list(range(1, len(swaps) + 1))
    assert not device.events("refused")
    assert [batch["frames"] for batch in batches] == [2] + [1] * (len(batches) - 1)
    strides = {round(RATE_HZ / float(str(batch["sampling_hz"]))) for batch in batches}
    assert strides <= {2, 4, 8, 16, 32, 64}
    assert 2 in strides, "it starts with the shortest one"
