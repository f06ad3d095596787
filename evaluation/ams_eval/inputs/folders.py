"""Folders of frames as recordings: pictures in the natural order of their names, with a rate or a file of times."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from ams_common.errors import ConfigurationError, SourceError, system_reason
from ams_edge.frame import Frame
from ams_edge.media import SHORTEST_GAP_S
from ams_eval.inputs.frame_range import FrameRange, positions
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.labels_beside import human_labels
from ams_eval.inputs.naming import in_natural_order, recording_name
from ams_eval.inputs.pictures import SUFFIXES, read_picture
from ams_eval.inputs.recording import Recording
from ams_server.teachers.network import file_digest, identity_of

MOST_TIMES_BYTES = 64 << 20
"""Largest file of capture times."""


def frame_folder(path: Path, config: InputConfig) -> list[Recording]:
    """Return the recording of a folder of PNG or JPEG frames, with the labels that lie beside it; none where it has no frames.

    Raises:
        SourceError: a frame cannot be read.
        ConfigurationError: there is no rate or time, times or labels do not match the frames, or a setting does not fit.
    """
    files = in_natural_order(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        return []
    recording, frames = open_frames(path.name, files, _times_s(path, files, config), config)
    return [replace(recording, human=human_labels(path, config, frames, files))]


def open_frames(
    name: str, files: Sequence[Path], times_s: Sequence[float], config: InputConfig
) -> tuple[Recording, FrameRange]:
    """Return the recording of picture files taken at `times_s`, without labels, and which of the files it has.

    Times ascend; the first one counts as 0 s.

    Raises:
        SourceError: times do not ascend, or the first picture cannot be read.
        ConfigurationError: there is no frame in the time that `config` takes.
    """
    for (_, before_s), (file, time_s) in pairwise(zip(files, times_s, strict=True)):
        if not time_s - before_s >= SHORTEST_GAP_S:
            raise SourceError(f"frame {file.name!r} is of {time_s:.6f} s, the one before it of {before_s:.6f} s")
    taken = positions([time_s - times_s[0] for time_s in times_s], config, name)
    chosen = [(files[index], times_s[index] - times_s[taken.start]) for index in taken]
    first = Frame(read_picture(chosen[0][0]), index=0, capture_time_s=0.0)
    frames = FrameRange(first=taken.start, count=len(chosen), source_count=len(files), width=first.width, height=first.height)
    recording = Recording(
        name=recording_name(name),
        digest=_digest(chosen),
        frame_count=len(chosen),
        frames=lambda: _frames(chosen, (first.width, first.height)),
    )
    return recording, frames


def read_times_s(path: Path, files: Sequence[Path]) -> list[float]:
    """Return the capture times of `files`, in seconds, from a text file.

    Each line has one time, in the order of the files, or the name of a file and its time. Empty lines and what follows a # do
    not count.

    Raises:
        ConfigurationError: the file cannot be read, a line is something else, or the lines do not fit the files.
    """
    lines = _lines(path)
    if len(lines) != len(files):
        raise ConfigurationError(f"{str(path)!r} has {len(lines)} times for {len(files)} frames")
    by_name = {}
    for file, words in zip(files, lines, strict=True):
        name = words[0] if len(words) > 1 else file.name
        by_name[name] = _number(words[-1], path)
    for file in files:
        if file.name not in by_name:
            raise ConfigurationError(f"{str(path)!r} has no time for frame {file.name!r}")
    return [by_name[file.name] for file in files]


def _times_s(folder: Path, files: Sequence[Path], config: InputConfig) -> list[float]:
    if (config.frame_rate_hz is None) == (config.timestamps is None):
        raise ConfigurationError(f"the folder of frames {str(folder)!r} needs either --frame-rate-hz or --timestamps")
    if config.timestamps is not None:
        return read_times_s(config.timestamps, files)
    assert config.frame_rate_hz is not None
    return [index / config.frame_rate_hz for index in range(len(files))]


def _lines(path: Path) -> list[list[str]]:
    """Return the one or two words of each line."""
    try:
        if path.stat().st_size > MOST_TIMES_BYTES:
            raise ConfigurationError(f"{str(path)!r} is too large for a file of times")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"cannot read times from {str(path)!r}: {error}") from error
    lines = [line.partition("#")[0].rsplit(maxsplit=1) for line in text.splitlines()]
    return [words for words in lines if words]


def _number(word: str, path: Path) -> float:
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigurationError(f"{word!r} in {str(path)!r} is no time in seconds")
    return value


def _frames(chosen: Sequence[tuple[Path, float]], size: tuple[int, int]) -> Iterator[Frame]:
    for index, (file, time_s) in enumerate(chosen):
        frame = Frame(read_picture(file), index=index, capture_time_s=time_s)
        if (frame.width, frame.height) != size:
            raise SourceError(f"frame {str(file)!r} is {frame.width}x{frame.height}, the first one {size[0]}x{size[1]}")
        yield frame


def _digest(chosen: Sequence[tuple[Path, float]]) -> str:
    try:
        return identity_of("frames", *(f"{file_digest(file)} {round(time_s * 1e6)}" for file, time_s in chosen))
    except OSError as error:
        raise SourceError(f"frame {str(error.filename)!r} cannot be read: {system_reason(error)}") from error
