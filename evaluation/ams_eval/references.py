"""What a recording's frames should be labelled as: by the teacher on the original pictures, and by people."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from ams_common.classes import IGNORE, ClassSet, UInt8Array
from ams_common.compression import zstd_compress, zstd_decompress
from ams_common.errors import AmsError
from ams_edge.frame import Frame
from ams_eval.inputs.recording import LabelSource, Recording
from ams_eval.outcome import Moments
from ams_eval.scores import evenly_spaced
from ams_server.teachers.base import Teacher

MOST_MOMENTS = 48
"""Frames of a recording that reports may show."""
PICTURE_WIDTH = 480
_PACKING_LEVEL = 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Labels of one frame, uint8 [H, W] at the student's size, in the student's classes."""

    teacher: UInt8Array
    human: UInt8Array | None


@dataclass(frozen=True, kw_only=True, eq=False)
class References:
    """Labels of all scored frames of a recording, and what reports may show of it."""

    frames: dict[int, Reference]
    """By frame index, ascending."""
    moments: Moments


def label_references(
    recording: Recording,
    teacher: Teacher,
    classes: ClassSet,
    size: tuple[int, int],
    scored_hz: float,
    on_frame: Callable[[int], None] = lambda index: None,
) -> References:
    """Label the frames of a recording that are to be scored.

    At most `scored_hz` frames a second are, evenly spread; 0 stands for all. `size` is (width, height) of the student.
    `on_frame` is called with the index of each frame that is done.

    Raises:
        AmsError: the recording or the teacher fails, or people's labels cannot be read.
    """
    builder = _Builder(recording, teacher, classes, size)
    newest_slot = -1
    for frame in recording.frames():
        slot = int(frame.capture_time_s * scored_hz + 1e-6) if scored_hz else frame.index
        if slot > newest_slot:
            builder.add(frame)
            newest_slot = slot
        on_frame(frame.index)
    return builder.build()


class FrameLabeller:
    """Says what single frames of a recording should be labelled as."""

    def __init__(self, recording: Recording, teacher: Teacher, classes: ClassSet, size: tuple[int, int]) -> None:
        """Label in `classes` and at `size`, (width, height), of the student."""
        self._teacher = teacher
        self._teacher_table = teacher.classes.lookup_into(classes)
        self._human = None if recording.human is None else (recording.human, recording.human.classes.lookup_into(classes))
        self._size = size

    def reference(self, frame: Frame) -> Reference:
        """Return the labels of one frame.

        Raises:
            AmsError: the teacher fails, or people's labels cannot be read.
        """
        labels = self._teacher_table[self._teacher.label(frame.image[None], [frame.capture_time_s])[0]]
        human = self._human_labels(frame) if self._human else None
        return Reference(teacher=resized(labels, self._size), human=human)

    def _human_labels(self, frame: Frame) -> UInt8Array | None:
        assert self._human is not None
        source, table = self._human
        labels = source.labels(frame.index)
        if labels is None:
            return None
        _check_shape(labels, frame, source)
        return resized(np.asarray(table[labels], np.uint8), self._size)


class _Builder:
    def __init__(self, recording: Recording, teacher: Teacher, classes: ClassSet, size: tuple[int, int]) -> None:
        self._labeller = FrameLabeller(recording, teacher, classes, size)
        self._with_human = recording.human is not None
        self._size = size
        self._frames: dict[int, Reference] = {}
        self._pictures: dict[int, tuple[float, UInt8Array]] = {}

    def add(self, frame: Frame) -> None:
        """Label one frame."""
        self._frames[frame.index] = self._labeller.reference(frame)
        width = min(PICTURE_WIDTH, frame.width)
        self._pictures[frame.index] = frame.capture_time_s, frame.rgb(width, round(width * frame.height / frame.width))
        if len(self._pictures) >= 4 * MOST_MOMENTS:
            self._pictures = dict(list(self._pictures.items())[::2])

    def build(self) -> References:
        """Return what was labelled."""
        times_s = [time_s for time_s, _ in self._pictures.values()]
        indices = list(self._pictures)
        chosen = [indices[each] for each in evenly_spaced(times_s, per_second=1e6, most=MOST_MOMENTS)]
        references = [self._frames[index] for index in chosen]
        width, height = self._size
        unknown = np.full((height, width), IGNORE, np.uint8)
        human = [unknown if each.human is None else each.human for each in references]
        moments = Moments(
            frames=np.array(chosen, np.int64),
            times_s=np.array([self._pictures[index][0] for index in chosen], np.float64),
            pictures=np.stack([self._pictures[index][1] for index in chosen]),
            teacher=np.stack([each.teacher for each in references]),
            human=np.stack(human) if self._with_human else None,
        )
        return References(frames=self._frames, moments=moments)


class PackedReferences:
    """References of every frame of a recording, compressed in memory: those of an hour would not fit as they are."""

    def __init__(self, size: tuple[int, int]) -> None:
        """Keep label maps of `size`, (width, height)."""
        self._size = size
        self._packed: list[tuple[bytes, bytes | None]] = []

    def append(self, reference: Reference) -> None:
        """Keep the reference of the next frame."""
        human = None if reference.human is None else zstd_compress(reference.human.tobytes(), _PACKING_LEVEL)
        self._packed.append((zstd_compress(reference.teacher.tobytes(), _PACKING_LEVEL), human))

    def __getitem__(self, index: int) -> Reference:
        teacher, human = self._packed[index]
        return Reference(teacher=self._unpacked(teacher), human=None if human is None else self._unpacked(human))

    def _unpacked(self, packed: bytes) -> UInt8Array:
        width, height = self._size
        return np.frombuffer(zstd_decompress(packed, width * height), np.uint8).reshape(height, width)


def resized(labels: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Return label map `labels`, uint8 [h, w], at `size`, (width, height), each pixel the nearest one."""
    return np.asarray(cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST), np.uint8)


def _check_shape(labels: UInt8Array, frame: Frame, source: LabelSource) -> None:
    """Refuse labels of another shape than their frame: they may be smaller, but not turned or cropped."""
    height, width = labels.shape
    if abs(width / height - frame.width / frame.height) > 0.02 * frame.width / frame.height:
        raise LabelsMismatchError(
            f"labels of frame {frame.index} are {width}x{height} pixels, which is not the shape of its picture, "
            f"{frame.width}x{frame.height}; class set {source.classes.name!r}"
        )


class LabelsMismatchError(AmsError):
    """Labels that do not belong to their frames."""
