"""A labelled picture, as sinks take it."""

from typing import NamedTuple

from ams_common.classes import ClassSet
from ams_edge.frame import Frame, UInt8Array


class Picture(NamedTuple):
    """One labelled picture, and the model that labelled it."""

    frame: Frame
    labels: UInt8Array
    """[h, w], at any size."""
    version: int
    """Version of the weights."""
    model_age_s: float | None = None
    """Seconds between the capture of this picture and that of the newest frame learnt; None for a model as it came."""

    classes: ClassSet | None = None
    """Meaning of the labels, where it is not what the sink was opened with."""

    def copied(self) -> "Picture":
        """Return the picture with labels of its own."""
        return self._replace(labels=self.labels.copy())
