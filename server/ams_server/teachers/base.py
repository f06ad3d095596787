"""What every teacher does: say what frames show."""

from collections.abc import Sequence
from typing import Protocol

from ams_common.classes import ClassSet, UInt8Array


class Teacher(Protocol):
    """Labels frames in its own class set; used from one thread."""

    @property
    def classes(self) -> ClassSet:
        """Meaning of the labels."""
        ...

    @property
    def identity(self) -> str:
        """Digest of weights and settings: teachers of equal identity give equal labels to equal frames, for caches."""
        ...

    def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
        """Return labels, uint8 [N, H, W], of RGB frames, uint8 [N, H, W, 3], captured at `capture_times_s`, one for each.

        Labels are indices into `classes`, or ams_common.classes.IGNORE where none applies. Capture times are in seconds from
        the start of the recording; only a teacher that looks labels up needs them.

        Raises:
            AmsError: the frames cannot be labelled, such as those after the end of labels on disk.
        """
        ...
