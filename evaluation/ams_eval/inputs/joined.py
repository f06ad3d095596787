"""Several recordings as one long stream with changes of scene, named one a line in a playlist (.m3u)."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from ams_common.classes import ClassSet, UInt8Array
from ams_common.errors import ConfigurationError, SourceError
from ams_edge.frame import Frame
from ams_eval.inputs.recording import LabelSource, Recording
from ams_server.teachers.network import identity_of

PLAYLIST_SUFFIX = ".m3u"
_MOST_ENTRIES = 1000
_LONE_FRAME_S = 1.0
"""What a recording of a single frame lasts."""


def playlist_entries(path: Path) -> list[Path]:
    """Return the videos and folders that a playlist names, relative to its own folder; lines that begin with # do not count.

    Raises:
        SourceError: it cannot be read, or names nothing, too much, or another playlist.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"cannot read playlist {str(path)!r}: it is no text that can be read") from error
    entries = [path.parent / line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not 1 <= len(entries) <= _MOST_ENTRIES:
        raise SourceError(f"playlist {str(path)!r} names {len(entries)} recordings, 1 to {_MOST_ENTRIES} are possible")
    if any(entry.suffix == PLAYLIST_SUFFIX for entry in entries):
        raise SourceError(f"playlist {str(path)!r} names another playlist")
    return entries


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedLabels:
    """The labels of recordings that follow each other; frames of one without labels have none."""

    classes: ClassSet
    digest: str
    sources: Sequence[LabelSource | None]
    starts: Sequence[int]
    """Index of the first frame of each recording."""

    def labels(self, frame_index: int) -> UInt8Array | None:
        """Return the labels, uint8 [H, W], of the frame with an index; None for a frame that has none.

        Raises:
            AmsError: the labels of this frame cannot be read.
        """
        place = bisect_right(self.starts, frame_index) - 1
        source = self.sources[place]
        return None if source is None else source.labels(frame_index - self.starts[place])


def join(name: str, recordings: Sequence[Recording]) -> Recording:
    """Return `recordings`, at least one, as a single one called `name`.

    Each begins after the last frame of the one before it, by as much as that frame comes after its own predecessor.

    Raises:
        ConfigurationError: their labels have different classes.
    """
    starts = [0, *accumulate(recording.frame_count for recording in recordings)]
    return Recording(
        name=name,
        digest=identity_of("joined", *(recording.digest for recording in recordings)),
        frame_count=starts[-1],
        frames=lambda: _frames(recordings, starts),
        human=_labels([recording.human for recording in recordings], starts),
        teacher=_labels([recording.teacher for recording in recordings], starts),
    )


def _frames(recordings: Sequence[Recording], starts: Sequence[int]) -> Iterator[Frame]:
    offset_s = 0.0
    for recording, start in zip(recordings, starts, strict=False):
        last_s = period_s = 0.0
        for frame in recording.frames():
            if frame.index:
                period_s = frame.capture_time_s - last_s
            last_s = frame.capture_time_s
            yield frame.at(index=start + frame.index, capture_time_s=offset_s + last_s)
        offset_s += last_s + (period_s or _LONE_FRAME_S)


def _labels(sources: Sequence[LabelSource | None], starts: Sequence[int]) -> JoinedLabels | None:
    present = [source for source in sources if source is not None]
    if not present:
        return None
    if any(source.classes != present[0].classes for source in present):
        raise ConfigurationError("recordings whose labels have different classes cannot be joined")
    return JoinedLabels(
        classes=present[0].classes,
        digest=identity_of("joined", *("" if source is None else source.digest for source in sources)),
        sources=sources,
        starts=starts[:-1],
    )
