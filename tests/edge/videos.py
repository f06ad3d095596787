"""Tiny videos for tests: picture i is uniformly grey at level `grey_level(i)`, so that a test knows which one it sees."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ams_edge.frame import Frame

CLOCK_HZ = 1000


def grey_level(index: int) -> int:
    return 20 + 8 * index % 200


def which(frame: Frame) -> int:
    """Return the index of the written picture that `frame` shows, for videos of up to 25 pictures."""
    return round((float(frame.rgb(2, 2).mean()) - 20) / 8)


def write_video(path: Path, times_s: Sequence[float], *, width: int = 64, height: int = 48, container: str = "mp4") -> Path:
    """Write one grey picture for each time, with that time stamp."""
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream("libx264", rate=10, options={"preset": "ultrafast", "crf": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = Fraction(1, CLOCK_HZ)
        for index, time_s in enumerate(times_s):
            image = np.full((height, width, 3), grey_level(index), np.uint8)
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = round(time_s * CLOCK_HZ), Fraction(1, CLOCK_HZ)
            output.mux(stream.encode(picture))
        output.mux(stream.encode())
    return path


def tenths(count: int) -> list[float]:
    """Return `count` times, a tenth of a second apart."""
    return [index / 10 for index in range(count)]
