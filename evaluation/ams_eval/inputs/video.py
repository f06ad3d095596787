"""A video file as a recording: the frames, indices and capture times that the edge sees when it plays the file with `fast`."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av

from ams_common.errors import SourceError
from ams_edge.frame import Frame
from ams_edge.media import CaptureTimes, Media
from ams_eval.inputs.frame_range import FrameRange, end_s, positions
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.labels_beside import human_labels, teacher_labels
from ams_eval.inputs.naming import recording_name
from ams_eval.inputs.recording import Recording
from ams_server.teachers.network import file_digest, identity_of


class _Shown(NamedTuple):
    picture: av.VideoFrame
    time_s: float


def video_file(path: Path, config: InputConfig) -> list[Recording]:
    """Return the recording of a video file, with the labels that lie beside it.

    Raises:
        SourceError: the file cannot be read, or holds no video.
        ConfigurationError: labels do not match the frames, or a setting does not fit.
    """
    recording, frames = open_video(path, config)
    return [replace(recording, human=human_labels(path, config, frames), teacher=teacher_labels(path, config, frames))]


def open_video(path: Path, config: InputConfig) -> tuple[Recording, FrameRange]:
    """Return the recording of a video file, without labels, and which of its frames it has.

    The file is decoded once to count its frames, up to the end of what `config` takes: headers do not always tell the truth,
    and frames that are damaged do not count.

    Raises:
        SourceError: the file cannot be read, or holds no video.
        ConfigurationError: there is no frame in the time that `config` takes.
    """
    if not path.is_file():
        raise SourceError(f"there is no video file {str(path)!r}")
    frames = _scan(path, config)
    recording = Recording(
        name=recording_name(path.stem),
        digest=identity_of("video", file_digest(path), frames.first, frames.count),
        frame_count=frames.count,
        frames=lambda: _frames(path, frames),
    )
    return recording, frames


def _frames(path: Path, frames: FrameRange) -> Iterator[Frame]:
    with closing(_shown(path)) as shown:
        start_s = 0.0
        for index, each in enumerate(islice(shown, frames.first, frames.end)):
            if index == 0:
                start_s = each.time_s
            yield Frame(each.picture, index=index, capture_time_s=each.time_s - start_s)


def _scan(path: Path, config: InputConfig) -> FrameRange:
    times_s: list[float] = []
    source_count: int | None = None
    width = height = 0
    with closing(_shown(path)) as shown:
        for picture, time_s in shown:
            if not times_s:
                first = Frame(picture, index=0, capture_time_s=time_s)
                width, height = first.width, first.height
            times_s.append(time_s)
            if time_s >= end_s(config):
                break
        else:
            source_count = len(times_s)
    if not times_s:
        raise SourceError(f"no picture of {str(path)!r} can be decoded")
    taken = positions(times_s, config, path.name)
    return FrameRange(
        first=taken.start,
        count=len(taken),
        source_count=source_count,
        width=width,
        height=height,
        told_count=_told_count(path),
    )


def _told_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return container.streams.video[0].frames


def _shown(path: Path) -> Generator[_Shown]:
    """Yield the pictures of a file with the times that the edge's camera gives them."""
    media = Media(str(path))
    try:
        times = CaptureTimes(media.period_s)
        for picture in media.pictures():
            yield _Shown(picture, times.next_s(picture.time))
    finally:
        media.close()
