import csv
import logging
import sys
import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from tests.edge.videos import grey_level

from ams_common.classes import STREET7, ClassSet, SegmentationClass
from ams_common.errors import ConfigurationError
from ams_edge.frame import Frame, UInt8Array
from ams_edge.overlay import draw_caption, draw_legend, draw_overlay
from ams_edge.picture import Picture
from ams_edge.sinks import FileSink, OverlayVideo, Sink, SinkConfig, check_outputs, open_sinks

ROAD, SKY = 0, 4


def picture(index: int, *, time_s: float | None = None, width: int = 640, height: int = 320) -> Picture:
    image = np.full((height, width, 3), grey_level(index), np.uint8)
    labels = np.full((32, 64), ROAD, np.uint8)
    labels[:16] = SKY
    labels[0, 0] = index
    frame = Frame(image, index=index, capture_time_s=index / 10 if time_s is None else time_s)
    return Picture(frame, labels, 2 * index, index / 4 if index else None)


def write_all(sinks: tuple[Sink, ...], pictures: list[Picture]) -> None:
    for each in pictures:
        for sink in sinks:
            sink.write(each)
    for sink in sinks:
        sink.close()
        sink.close()


def decode(path: Path) -> tuple[list[float], list[UInt8Array]]:
    with av.open(str(path)) as container:
        pictures = list(container.decode(video=0))
    return [each.time for each in pictures], [np.asarray(each.to_ndarray(format="rgb24"), np.uint8) for each in pictures]


def read_png(path: Path) -> UInt8Array:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return np.asarray(image, np.uint8)


def write_many(sink: Sink, count: int) -> None:
    for index in range(count):
        sink.write(picture(index))


def test_the_overlay_video_shows_each_picture_at_its_time(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "overlay.mp4"
    times_s = [1000.0, 1000.1, 1000.15, 1001.0, 1003.5]
    pictures = [picture(index, time_s=time_s) for index, time_s in enumerate(times_s)]
    write_all(open_sinks(SinkConfig(overlay=path), STREET7, lossless=True), pictures)
    shown_s, images = decode(path)
    assert shown_s == pytest.approx([0.0, 0.1, 0.15, 1.0, 3.5], abs=1e-4)
    legend = draw_legend(STREET7, 640)
    for (frame, labels, version, age_s, _), image in zip(pictures, images, strict=True):
        caption = draw_caption(version, age_s, 640)
        expected = np.vstack([draw_overlay(frame.image, labels, STREET7.palette()), legend, caption])
        assert image.shape == expected.shape
        assert np.abs(image.astype(int) - expected).mean() < 4


def test_pictures_of_another_size_are_fitted_to_the_first(tmp_path: Path) -> None:
    path = tmp_path / "overlay.mp4"
    pictures = [picture(0, width=641, height=323), picture(1, width=320, height=200)]
    write_all(open_sinks(SinkConfig(overlay=path), STREET7, lossless=True), pictures)
    _, images = decode(path)
    assert len(images) == 2
    assert images[0].shape == images[1].shape
    assert images[0].shape[0] % 2 == images[0].shape[1] % 2 == 0


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_a_video_that_was_cut_short_plays(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"overlay{ending}"
    video = OverlayVideo(path, STREET7)
    for index in range(120):
        video.record(picture(index, height=64))
    cut = tmp_path / f"cut{ending}"
    cut.write_bytes(path.read_bytes())
    video.close()
    shown_s, _ = decode(cut)
    assert shown_s == pytest.approx(np.arange(len(shown_s)) / 10, abs=1e-4)
    assert 50 <= len(shown_s) < 120
    assert len(decode(path)[0]) == 120


def test_a_video_without_a_picture_closes_quietly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        write_all(open_sinks(SinkConfig(overlay=tmp_path / "overlay.mp4"), STREET7, lossless=True), [])
    assert caplog.text == ""


def test_the_label_folder_holds_the_labels_themselves_and_says_what_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    pictures = [picture(index) for index in (0, 3, 4)]
    write_all(open_sinks(SinkConfig(labels=folder), STREET7, lossless=True), pictures)
    with (folder / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["frame_index"], row["capture_time_s"], row["version"], row["model_age_s"]) for row in rows] == [
        ("000000.png", "0", "0.000000", "0", ""),
        ("000003.png", "3", "0.300000", "6", "0.750"),
        ("000004.png", "4", "0.400000", "8", "1.000"),
    ]
    for row, each in zip(rows, pictures, strict=True):
        assert np.array_equal(read_png(folder / row["file"]), each.labels)


class SlowRecorder:
    """Holds the first picture until it is told to go on."""

    def __init__(self) -> None:
        self.busy, self.go_on = threading.Event(), threading.Event()
        self.indices: list[int] = []
        self.labels: list[UInt8Array] = []
        self.closed = 0

    def record(self, picture: Picture) -> None:
        self.busy.set()
        assert self.go_on.wait(10.0)
        self.indices.append(picture.frame.index)
        self.labels.append(picture.labels)

    def close(self) -> None:
        self.closed += 1


def test_labels_may_change_after_they_were_handed_over() -> None:
    recorder = SlowRecorder()
    sink = FileSink("label folder", recorder, lossless=True)
    each = picture(5)
    expected = each.labels.copy()
    sink.write(each)
    each.labels[:] = 0
    recorder.go_on.set()
    sink.close()
    assert np.array_equal(recorder.labels[0], expected)


def test_a_slow_disk_costs_the_oldest_pictures_and_they_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    recorder = SlowRecorder()
    sink = FileSink("overlay video", recorder, lossless=False)
    sink.write(picture(0))
    assert recorder.busy.wait(10.0)
    for index in range(1, 13):
        sink.write(picture(index))
    recorder.go_on.set()
    with caplog.at_level(logging.INFO):
        sink.close()
    assert recorder.indices == [0, *range(5, 13)]
    assert sink.dropped == 4
    assert "4 pictures were left out" in caplog.text


def test_lossless_waits_instead() -> None:
    recorder = SlowRecorder()
    sink = FileSink("overlay video", recorder, lossless=True)
    writer = threading.Thread(target=write_many, args=(sink, 30))
    writer.start()
    writer.join(0.1)
    assert writer.is_alive()
    recorder.go_on.set()
    writer.join(10.0)
    sink.close()
    sink.close()
    assert recorder.indices == list(range(30))
    assert recorder.closed == 1


def test_a_folder_that_goes_away_costs_one_warning_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "labels"
    sinks = open_sinks(SinkConfig(labels=folder), STREET7, lossless=True)
    (folder / "index.csv").unlink()
    folder.rmdir()
    with caplog.at_level(logging.WARNING):
        write_all(sinks, [picture(index) for index in range(30)])
    assert len(caplog.records) == 1
    assert "label folder has stopped" in caplog.text


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_a_full_disk_costs_one_warning_and_nothing_else(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    overlay = tmp_path / "overlay.mp4"
    overlay.symlink_to("/dev/full")
    sinks = open_sinks(SinkConfig(overlay=overlay), STREET7, lossless=True)
    with caplog.at_level(logging.WARNING):
        write_all(sinks, [picture(index) for index in range(200)])
    assert len(caplog.records) == 1
    assert caplog.messages == ["overlay video has stopped: no space left on device"]


@pytest.mark.parametrize("flag", ["overlay", "labels"])
def test_a_path_that_cannot_be_written_is_one_clear_line(tmp_path: Path, flag: str) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    config = SinkConfig.model_validate({flag: file / "output.mp4"})
    for attempt in (check_outputs, lambda config: open_sinks(config, STREET7, lossless=False)):
        with pytest.raises(ConfigurationError, match=rf"^cannot write --{flag} '.*': its folder is a file$"):
            attempt(config)


@pytest.mark.parametrize("flag", ["overlay", "labels"])
def test_a_path_that_cannot_even_be_looked_at_is_one_too(tmp_path: Path, flag: str) -> None:
    config = SinkConfig.model_validate({flag: tmp_path / f"{'x' * 300}.mp4"})
    with pytest.raises(ConfigurationError, match=rf"^cannot write --{flag} '.*': file name too long$"):
        check_outputs(config)


def test_an_output_that_fails_to_open_closes_the_others(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("in the way")
    with pytest.raises(ConfigurationError, match="--labels"):
        open_sinks(SinkConfig(overlay=tmp_path / "overlay.mp4", labels=file), STREET7, lossless=True)
    assert "overlay video" not in {thread.name for thread in threading.enumerate()}


def test_a_folder_where_a_file_should_be_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    with pytest.raises(ConfigurationError, match="is a directory"):
        check_outputs(SinkConfig(overlay=folder))


@pytest.mark.parametrize("name", ["x.avi", "x", "x.mp4.txt"])
def test_a_video_of_an_unknown_ending_is_refused_before_there_is_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot write --overlay '.*': its name must end in \.mp4 or \.mkv$"):
        check_outputs(SinkConfig(overlay=tmp_path / name))
    assert not list(tmp_path.iterdir())


def test_an_ending_may_be_in_capitals_and_says_the_format(tmp_path: Path) -> None:
    for name, container in (("a.MP4", "mp4"), ("a.MKV", "matroska")):
        config = SinkConfig(overlay=tmp_path / name)
        check_outputs(config)
        write_all(open_sinks(config, STREET7, lossless=True), [picture(0)])
        with av.open(str(tmp_path / name)) as film:
            assert container in film.format.name


def test_labels_of_an_earlier_run_are_not_mixed_with_those_of_this_one(tmp_path: Path) -> None:
    folder = tmp_path / "labels"
    config = SinkConfig(labels=folder)
    check_outputs(config)
    check_outputs(config)
    written = []
    for number in range(3):
        check_outputs(config)
        write_all(open_sinks(config, STREET7, lossless=True), [picture(number), picture(number + 1)])
        written.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert [set(files) for files in written] == [{"index.csv", f"00000{n}.png", f"00000{n + 1}.png"} for n in range(3)]
    kept = [{path.name: path.read_bytes() for path in (tmp_path / f"labels-{n}").iterdir()} for n in (1, 2)]
    assert [*kept, written[2]] == written


def test_a_folder_of_other_pictures_is_left_alone(tmp_path: Path) -> None:
    config = SinkConfig(labels=tmp_path)
    (tmp_path / "holiday.png").write_bytes(b"sea")
    (tmp_path / "index.csv").write_text("my,own,table\n")
    for attempt in (check_outputs, lambda config: open_sinks(config, STREET7, lossless=True)):
        with pytest.raises(ConfigurationError, match=r"--labels '.*' holds other pictures: name a folder of its own"):
            attempt(config)
    assert {path.name for path in tmp_path.iterdir()} == {"holiday.png", "index.csv"}


def test_a_full_disk_at_the_first_line_of_labels_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "index.csv").symlink_to("/dev/full")
    with pytest.raises(ConfigurationError, match=r"cannot write --labels .*: no space left on device"):
        open_sinks(SinkConfig(labels=tmp_path), STREET7, lossless=True)


def test_labels_of_another_model_have_its_colours_and_names(tmp_path: Path) -> None:
    path = tmp_path / "overlay.mp4"
    colours = {"meadow": (10, 200, 30), "lake": (20, 40, 220)}
    other = ClassSet("other", tuple(SegmentationClass(name=name, colour=colour) for name, colour in colours.items()))
    pictures = [picture(0), picture(1)._replace(classes=STREET7), picture(2)._replace(classes=other)]
    write_all(open_sinks(SinkConfig(overlay=path), STREET7, lossless=True), pictures)
    _, images = decode(path)
    for classes, each, image in zip((STREET7, STREET7, other), pictures, images, strict=True):
        drawn = draw_overlay(each.frame.image, each.labels, classes.palette())
        legend = draw_legend(classes, 640)
        assert np.abs(image[: len(drawn)].astype(int) - drawn).mean() < 4
        assert np.abs(image[len(drawn) :][: len(legend)].astype(int) - legend).mean() < 6


def test_checking_spoils_nothing(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.mp4"
    overlay.write_bytes(b"last run")
    check_outputs(SinkConfig(overlay=overlay, labels=tmp_path / "labels"))
    assert overlay.read_bytes() == b"last run"


def test_no_output_is_no_sink() -> None:
    check_outputs(SinkConfig())
    assert open_sinks(SinkConfig(), STREET7, lossless=True) == ()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no DISPLAY")
def test_a_window_without_a_display_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(ConfigurationError, match="--window needs a display"):
        check_outputs(SinkConfig(window=True))
    with pytest.raises(ConfigurationError, match="--window needs a display"):
        open_sinks(SinkConfig(window=True), STREET7, lossless=True)


def test_films_of_earlier_runs_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    overlay = tmp_path / "overlay.mp4"
    for film in (b"first", b"second"):
        overlay.write_bytes(film)
        write_all(open_sinks(SinkConfig(overlay=overlay), STREET7, lossless=True), [picture(0)])
        assert decode(overlay)[0] == [0.0]
    films = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path != overlay}
    assert films == {"overlay-1.mp4": b"first", "overlay-2.mp4": b"second"}
    assert caplog.messages == [f"what was in {overlay} is now {tmp_path / name}" for name in sorted(films)]


def test_a_film_is_kept_beside_itself_where_a_link_leads_to_it(tmp_path: Path) -> None:
    film, overlay = tmp_path / "disk" / "film.mp4", tmp_path / "overlay.mp4"
    film.parent.mkdir()
    film.write_bytes(b"first")
    overlay.symlink_to(film)
    write_all(open_sinks(SinkConfig(overlay=overlay), STREET7, lossless=True), [picture(0)])
    assert (tmp_path / "disk" / "film-1.mp4").read_bytes() == b"first"
    assert decode(film)[0] == [0.0]
