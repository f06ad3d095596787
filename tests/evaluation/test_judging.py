import csv
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from tests.edge.tiny_student import CLASSES, HEIGHT, WIDTH, tiny_model
from tests.edge.videos import grey_level, tenths, write_video

from ams_common.classes import STREET7, UInt8Array
from ams_common.errors import ConfigurationError
from ams_edge.inference import Model, build_model
from ams_edge.providers import choose_backend
from ams_edge.runtime_config import RuntimeConfig
from ams_eval import judging
from ams_eval.judging import MOMENTS, Judgement, Shown, judge, read_index, street_labels

FRAMES = 20
CAR_HERE = CLASSES.names.index("car")
CAR_THERE = STREET7.names.index("car")


class CarTeacher:
    """Sees a car above and road below, and checks what it is shown."""

    classes = STREET7
    identity = "car"

    def __init__(self) -> None:
        self.asked_s: list[float] = []

    def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
        assert images.shape == (1, 48, 64, 3)  # the original picture
        assert abs(float(images.mean()) - grey_level(round(10 * capture_times_s[0]))) < 3
        self.asked_s.extend(capture_times_s)
        labels = np.zeros((1, 48, 64), np.uint8)
        labels[:, :24] = CAR_THERE
        return labels


@pytest.fixture(scope="module")
def start() -> Model:
    stored = tiny_model()
    return build_model(stored.manifest, stored.graph, stored.vector, choose_backend(RuntimeConfig()))


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "grey.mp4", tenths(FRAMES))


def perfect() -> UInt8Array:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[: HEIGHT // 2] = CAR_HERE
    return labels


def write_labels(folder: Path, frames: Sequence[int], labels: UInt8Array) -> tuple[Shown, ...]:
    folder.mkdir()
    with (folder / "index.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "frame_index", "capture_time_s", "version"])
        for index in frames:
            cv2.imwrite(str(folder / f"{index:06d}.png"), labels)
            rows.writerow([f"{index:06d}.png", index, f"{index / 10:.6f}", index // 10])
    return read_index(folder)


def judged(tmp_path: Path, video: Path, start: Model, frames: Sequence[int] = range(FRAMES)) -> tuple[Judgement, CarTeacher]:
    teacher = CarTeacher()
    shown = write_labels(tmp_path / "labels", frames, perfect())
    return judge(video, shown, teacher, start, None), teacher


def test_the_index_tells_what_the_edge_showed(tmp_path: Path) -> None:
    shown = write_labels(tmp_path / "labels", [0, 7, 12], perfect())
    assert [(each.frame_index, each.capture_time_s, each.version) for each in shown] == [(0, 0.0, 0), (7, 0.7, 0), (12, 1.2, 1)]
    assert all(each.file.is_file() for each in shown)


def test_an_edge_that_showed_nothing_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="wrote no labels"):
        read_index(tmp_path)
    with pytest.raises(ConfigurationError, match="wrote no labels"):
        write_labels(tmp_path / "labels", [], perfect())


def test_an_even_subset_is_scored_in_the_classes_of_the_student(tmp_path: Path, video: Path, start: Model) -> None:
    judgement, teacher = judged(tmp_path, video, start)
    assert teacher.asked_s == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert judgement.teacher.adapted.times_s == pytest.approx([0.0, 0.5, 1.0, 1.5])
    assert judgement.teacher.adapted.miou() == 1.0
    assert judgement.exact is None
    assert judgement.teacher_on_exact is None


def test_without_adaptation_means_the_model_as_it_came(tmp_path: Path, video: Path, start: Model) -> None:
    judgement, _ = judged(tmp_path, video, start)
    flat = np.full((HEIGHT, WIDTH, 3), grey_level(5), np.uint8)
    labels = start.infer(flat)
    counted = judgement.teacher.without.matrices[1].sum(axis=0)
    # A grey picture gives the same labels but at the borders, and decoding may shift its level by one.
    assert counted == pytest.approx(np.bincount(labels.ravel(), minlength=len(CLASSES)) * 2, abs=0.05 * 48 * 64)


def test_frames_that_the_edge_dropped_are_not_scored(tmp_path: Path, video: Path, start: Model) -> None:
    judgement, teacher = judged(tmp_path, video, start, frames=[2, 3, 9, 18])
    assert teacher.asked_s == pytest.approx([0.2, 0.9, 1.8])
    assert judgement.source_frames == FRAMES
    assert judgement.duration_s == pytest.approx(2.0)
    assert len(judgement.shown) == 4


def test_exact_labels_judge_the_teacher_too(tmp_path: Path, video: Path, start: Model) -> None:
    shown = write_labels(tmp_path / "labels", range(FRAMES), perfect())
    road = np.zeros((48, 64), np.uint8)
    judgement = judge(video, shown, CarTeacher(), start, lambda index: road)
    assert judgement.exact is not None
    assert judgement.teacher_on_exact is not None
    # Half of the pixels are road: IoU 1/2; the car is nowhere: 0.
    assert judgement.exact.adapted.miou() == judgement.teacher_on_exact.miou() == 0.25


def test_each_part_of_the_recording_has_a_moment(tmp_path: Path, video: Path, start: Model) -> None:
    judgement, _ = judged(tmp_path, video, start)
    assert 1 < len(judgement.moments) <= MOMENTS
    times_s = [moment.time_s for moment in judgement.moments]
    assert times_s == sorted(times_s)
    for moment in judgement.moments:
        assert moment.picture.shape == (48, 64, 3)
        assert moment.teacher.shape == moment.without.shape == moment.adapted.shape == (48, 64)
        assert moment.adapted_miou == 1.0
        assert moment.difference == pytest.approx(1.0 - moment.without_miou)


def test_the_moment_of_a_part_is_the_one_of_largest_difference(
    tmp_path: Path, video: Path, start: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "MOMENTS", 1)
    shown = write_labels(tmp_path / "labels", range(FRAMES), perfect())
    cv2.imwrite(str(shown[5].file), np.full((HEIGHT, WIDTH), CLASSES.names.index("sky"), np.uint8))
    judgement = judge(video, shown, CarTeacher(), start, None)
    gains = np.abs(judgement.teacher.frame_gain())
    assert gains.min() < gains.max() - 0.01
    (moment,) = judgement.moments
    assert moment.difference == pytest.approx(gains.max())


def test_the_labels_of_the_street_are_read_in_other_classes(tmp_path: Path) -> None:
    labels = np.full((2, 4, 6), STREET7.names.index("sky"), np.uint8)
    labels[1] = STREET7.names.index("building")
    np.savez_compressed(tmp_path / "street.npz", labels=labels)
    exact = street_labels(tmp_path / "street.npz", CLASSES)
    assert (exact(0) == CLASSES.names.index("sky")).all()
    assert (exact(1) == 255).all()
