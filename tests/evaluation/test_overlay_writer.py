from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.error import FFmpegError

from ams_common.classes import STREET7, UInt8Array
from ams_common.errors import ConfigurationError
from ams_edge.frame import Frame
from ams_eval.overlay_writer import OverlayWriter, View, side_by_side
from ams_eval.replay.device import Shown

WIDTH, HEIGHT = 96, 64
ROAD, SKY = (np.full((4, 6), STREET7.names.index(name), np.uint8) for name in ("road", "sky"))


def frame(index: int) -> Frame:
    return Frame(np.full((HEIGHT, WIDTH, 3), 90, np.uint8), index=index, capture_time_s=0.25 * index)


def shown(index: int) -> Shown:
    return Shown(frame=frame(index), labels=SKY)


def test_views_stand_side_by_side_under_their_titles() -> None:
    picture = side_by_side(shown(3), [View("teacher", ROAD), View("ams", SKY)])
    image, labels = picture.frame.image, picture.labels
    assert image.shape[:2] == labels.shape
    assert image.shape[1] == 2 * WIDTH
    title = image.shape[0] - HEIGHT
    assert (labels[:title] == 255).all()
    assert (labels[title:, :WIDTH] == ROAD[0, 0]).all()
    assert (labels[title:, WIDTH:] == SKY[0, 0]).all()
    assert (image[title:] == 90).all()
    assert len(np.unique(image[:title, :WIDTH])) > 2
    assert (picture.frame.index, picture.frame.capture_time_s) == (3, 0.75)


def test_large_pictures_are_reduced() -> None:
    large = Frame(np.zeros((720, 1280, 3), np.uint8), index=0, capture_time_s=0.0)
    assert side_by_side(Shown(frame=large, labels=SKY), [View("ams", ROAD)]).frame.width == 640


def test_the_model_that_labelled_a_picture_is_told() -> None:
    started, adapted = shown(3), replace(shown(3), version=7, newest_capture_s=0.5)
    told = [(each.version, each.model_age_s) for each in (side_by_side(one, [View("ams", SKY)]) for one in (started, adapted))]
    assert told == [(0, None), (7, 0.25)]


def pictures_of(path: Path) -> list[tuple[float, UInt8Array]]:
    with av.open(str(path)) as container:
        return [
            (float(each.time or 0), np.asarray(each.to_ndarray(format="rgb24"), np.uint8)) for each in container.decode(video=0)
        ]


def test_the_film_has_every_picture_at_its_time(tmp_path: Path) -> None:
    path = tmp_path / "new" / "film.mp4"
    with OverlayWriter(path, STREET7) as film:
        for index in range(4):
            film.write(shown(index), [View("teacher", ROAD), View("ams", SKY)])
    found = pictures_of(path)
    assert [time_s for time_s, _ in found] == pytest.approx([0.0, 0.25, 0.5, 0.75], abs=0.02)
    image = found[-1][1]
    left, right = (image[image.shape[0] // 2, column] for column in (image.shape[1] // 4, 3 * image.shape[1] // 4))
    assert np.abs(left.astype(int) - right.astype(int)).max() > 20


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot write"):
        OverlayWriter(tmp_path / "file" / "film.mp4", STREET7)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), FFmpegError(28, "No space left on device")])
def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*_: object) -> None:
        raise error

    film = OverlayWriter(tmp_path / "film.mp4", STREET7)
    with monkeypatch.context() as patch:
        patch.setattr("ams_edge.sinks.OverlayVideo.record", full)
        with pytest.raises(ConfigurationError, match=r"film\.mp4': no space left on device"):
            film.write(shown(0), [View("ams", ROAD)])
    film.write(shown(0), [View("ams", ROAD)])
    film.close()
