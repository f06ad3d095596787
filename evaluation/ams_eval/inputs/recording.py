"""A recording as every part of the evaluation sees it, wherever its pictures and labels come from."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ams_common.classes import ClassSet, UInt8Array
from ams_edge.frame import Frame


class LabelSource(Protocol):
    """Labels made before, by people or by a teacher."""

    @property
    def classes(self) -> ClassSet:
        """Meaning of the labels."""
        ...

    @property
    def digest(self) -> str:
        """Identity of the labels: equal digests mean equal labels."""
        ...

    def labels(self, frame_index: int) -> UInt8Array | None:
        """Return the labels, uint8 [H, W], of the frame with an index; None for a frame that has none.

        Raises:
            AmsError: the labels of this frame cannot be read.
        """
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Recording:
    """Pictures in the order of time, which can be gone through any number of times."""

    name: str
    """Short name for tables and files: letters, digits, dots, dashes and underscores."""
    digest: str
    """Identity of the pictures and their times, in hexadecimal: equal digests mean equal frames."""
    frame_count: int
    """Frames that `frames` yields, exactly."""
    frames: Callable[[], Iterator[Frame]]
    """Yields every frame from the first one: indices 0, 1, …; capture times ascend from 0 s. Raises SourceError."""
    human: LabelSource | None = None
    """Labels made by people, or exact ones."""
    teacher: LabelSource | None = None
    """Labels of a teacher that came with the recording."""
