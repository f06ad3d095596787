"""Recordings that follow each other as one stream."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.evaluation.pictures import labelled_frames, numbers_shown, times_s, write_picture

from ams_common.classes import STREET7, VOC21, ClassSet, UInt8Array
from ams_common.errors import ConfigurationError, SourceError
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.joined import join, playlist_entries
from ams_eval.inputs.layouts import open_recordings
from ams_eval.inputs.recording import Recording

CONFIG = InputConfig(frame_rate_hz=2)


def drives(folder: Path) -> tuple[Recording, Recording]:
    """Return recordings of the pictures 1, 2, 3 and 11, 12 at two pictures a second."""
    for name, numbers in (("one", (1, 2, 3)), ("two", (11, 12))):
        for number in numbers:
            write_picture(folder / name / f"{number:02}.png", number)
    (first,), (second,) = (open_recordings(folder / name, CONFIG) for name in ("one", "two"))
    return first, second


class NumberedLabels:
    """Labels of a single pixel: the index of the frame; odd ones have none."""

    def __init__(self, classes: ClassSet = STREET7) -> None:
        self.classes = classes
        self.digest = "numbers"

    def labels(self, frame_index: int) -> UInt8Array | None:
        return None if frame_index % 2 else np.full((1, 1), frame_index, np.uint8)


def test_the_second_goes_on_where_the_first_ends(tmp_path: Path) -> None:
    long = join("long", drives(tmp_path))
    assert (long.name, long.frame_count) == ("long", 5)
    assert numbers_shown(long) == [1, 2, 3, 11, 12]
    assert times_s(long) == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    assert numbers_shown(long) == [1, 2, 3, 11, 12], "it can be gone through again"


def test_labels_stay_with_their_frames(tmp_path: Path) -> None:
    first, second = drives(tmp_path)
    long = join("long", [first, replace(second, human=NumberedLabels())])
    assert labelled_frames(long) == [3]
    assert long.human is not None
    found = long.human.labels(3)
    assert found is not None
    assert found.item() == 0, "the first frame of the second recording"
    assert long.teacher is None


def test_labels_of_other_classes_are_refused(tmp_path: Path) -> None:
    first, second = drives(tmp_path)
    with pytest.raises(ConfigurationError, match="different classes"):
        join("long", [replace(first, human=NumberedLabels()), replace(second, human=NumberedLabels(VOC21))])


def test_the_order_belongs_to_the_identity(tmp_path: Path) -> None:
    first, second = drives(tmp_path)
    assert join("long", [first, second]).digest != join("long", [second, first]).digest


def test_a_playlist_is_one_recording(tmp_path: Path) -> None:
    drives(tmp_path)
    playlist = tmp_path / "long drive.m3u"
    playlist.write_text("#EXTM3U\none\n\n# then\ntwo\n")
    (long,) = open_recordings(playlist, CONFIG)
    assert long.name == "long-drive"
    assert numbers_shown(long) == [1, 2, 3, 11, 12]


@pytest.mark.parametrize(
    ("content", "reason"),
    [("# nothing\n", "names 0 recordings"), ("a\n" * 1001, "names 1001 recordings"), ("more.m3u\n", "names another playlist")],
)
def test_a_playlist_that_makes_no_stream_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    playlist = tmp_path / "list.m3u"
    playlist.write_text(content)
    with pytest.raises(SourceError, match=re.escape(reason)):
        playlist_entries(playlist)


def test_a_playlist_that_is_no_text_is_refused(tmp_path: Path) -> None:
    playlist = tmp_path / "list.m3u"
    playlist.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SourceError, match="cannot read playlist"):
        open_recordings(playlist, CONFIG)
    with pytest.raises(SourceError, match="there is no video"):
        open_recordings(tmp_path / "absent.m3u", CONFIG)
