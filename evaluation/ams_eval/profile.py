"""Where the time of an evaluation goes."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TypeVar

from ams_common.classes import UInt8Array
from ams_common.clock import Clock
from ams_eval.wrapped_teacher import WrappedTeacher
from ams_server.teachers.base import Teacher

T = TypeVar("T")
MODELS, SOURCE = "making models", "decoding of the recording"


class Profile:
    """Adds up the real time of named parts; a part within another one counts for itself alone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._open: list[str] = []
        self._since_s = clock.now_s()
        self._started_s = self._since_s
        self._seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what happens within for `name`."""
        self._turn_over()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn_over()
            self._open.pop()

    def each(self, name: str, items: Iterator[T]) -> Iterator[T]:
        """Yield each of `items`, and count the time of making them for `name`."""
        while True:
            with self.part(name):
                item = next(items, None)
            if item is None:
                return
            yield item

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each part so far, the longest first."""
        return dict(sorted(self._seconds.items(), key=lambda part: -part[1]))

    def rest_s(self) -> float:
        """Return the seconds so far that belong to no part."""
        return self._clock.now_s() - self._started_s - sum(self._seconds.values())

    def describe(self) -> str:
        """Return the share of each part and of the rest, for people."""
        seconds = self.seconds()
        rest_s = self.rest_s()
        total_s = max(sum(seconds.values()) + rest_s, 1e-9)
        shares = [f"{name} {100 * part_s / total_s:.0f} %" for name, part_s in {**seconds, "all else": rest_s}.items()]
        return f"{total_s:.0f} s: {', '.join(shares)}"

    def _turn_over(self) -> None:
        now_s = self._clock.now_s()
        if self._open:
            name = self._open[-1]
            self._seconds[name] = self._seconds.get(name, 0.0) + now_s - self._since_s
        self._since_s = now_s


class ProfiledTeacher(WrappedTeacher):
    """Labels as another teacher does, and counts the time as "labelling"."""

    def __init__(self, teacher: Teacher, profile: Profile) -> None:
        super().__init__(teacher)
        self._profile = profile

    def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
        """Return the labels, uint8 [N, H, W], of RGB frames, uint8 [N, H, W, 3], captured at `capture_times_s`."""
        with self._profile.part("labelling"):
            return self._teacher.label(images, capture_times_s)
