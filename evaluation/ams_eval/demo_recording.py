"""What the demo plays: the drawn street, or a video of the user's own."""

from dataclasses import dataclass
from pathlib import Path

import av
from av.error import FFmpegError

from ams_common.errors import ConfigurationError, SourceError, system_reason
from ams_eval.demo_settings import VideoShape
from ams_eval.result import NamedPhase
from ams_eval.world.stream import StreetConfig, write_stream


@dataclass(frozen=True, kw_only=True)
class Recording:
    """A video and what is known of it."""

    path: Path
    title: str
    shape: VideoShape
    duration_s: float
    """As the file or its maker says; 0 where nothing does."""
    phases: tuple[NamedPhase, ...] = ()
    street: StreetConfig | None = None
    """How to draw it; None for a file that is there."""

    @property
    def exact_labels(self) -> Path | None:
        """File of exact labels, if there is one once `prepare` is done."""
        return None if self.street is None else self.path.with_suffix(".labels.npz")

    def prepare(self) -> None:
        """Draw the street, if it is one; takes about 35 s on one core for the demo's.

        Raises:
            ConfigurationError: its files cannot be written, on a full disk for example; they are then gone.
        """
        if self.street is None or self.exact_labels is None:
            return
        try:
            write_stream(self.street, self.path, self.exact_labels)
        except (OSError, FFmpegError) as error:
            for file in (self.path, self.exact_labels):
                file.unlink(missing_ok=True)
            reason = system_reason(error)
            raise ConfigurationError(f"cannot draw the street into {str(self.path.parent)!r}: {reason}") from error


def street_recording(street: StreetConfig, folder: Path) -> Recording:
    """Return the drawn street, to be prepared in `folder`."""
    ends_s = [phase.start_s for phase in street.phases[1:]] + [street.duration_s]
    return Recording(
        path=folder / "street.mp4",
        title="a drawn street",
        shape=VideoShape(street.width, street.height),
        duration_s=street.duration_s,
        phases=tuple(NamedPhase(phase.name, phase.start_s, end_s) for phase, end_s in zip(street.phases, ends_s, strict=True)),
        street=street,
    )


def own_recording(path: Path) -> Recording:
    """Return a video of the user's own.

    Raises:
        SourceError: the file is no video.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise SourceError(f"{str(path)!r} holds no video")
            stream = container.streams.video[0]
            duration_s = (container.duration or 0) / 1e6
            shape = VideoShape(stream.width, stream.height)
    except FFmpegError as error:
        raise SourceError(f"{str(path)!r} is no video: {system_reason(error)}") from error
    return Recording(path=path, title=path.name, shape=shape, duration_s=duration_s)
