"""The frames that a device sends: how many bits each should have, and how large it then is.

Pixels that are few are labelled worse, and so are pixels that are coarse. With 25 kbit/s larger frames than the student's own
were worth 1.3 and 3.0 points of mIoU on two drives of CamVid.
"""

from pydantic import Field

from ams_common.frame_bits import wanted_bits
from ams_common.settings import PartConfig

BITS_PER_PIXEL = 0.15
"""From here on larger frames are asked for."""
LEAST_BITS_PER_PIXEL = 0.1
"""Below this smaller frames are asked for; between the two the size stays, so that not every change of the rate changes it."""
SCALES = (1.0, 1.5, 2.0, 3.0, 4.0)
"""Sides of the frames relative to the student's."""
MOST_PIXELS = 1 << 20
"""Frames are not asked for larger than this, unless the student is."""


class FrameConfig(PartConfig):
    """Pictures that devices send."""

    frame_width: int = 0
    """Width of the frames that devices send, in pixels, at most; by default it follows the bits that a frame may have."""
    frame_height: int = 0
    """Height of the frames that devices send, in pixels, at most; by default it follows the bits that a frame may have."""
    worthwhile_bits: float = Field(default=2.4, ge=0, le=100)
    """Bits of video for each pixel that the student sees, below which a frame is hardly worth labelling: where budget or link
    are small, frames become fewer instead of coarser. 0 for as many frames as the scene asks for, as in the paper."""


class FrameSize:
    """Size of one device's frames. Both sides are even, as video has them, so that an odd one of the student is one larger."""

    def __init__(self, config: FrameConfig, student: tuple[int, int]) -> None:
        """Start at the size of the `student`, (width, height), or what `config` says.

        Where that names one side alone, the other is the student's.
        """
        self._given = bool(config.frame_width or config.frame_height)
        self._worthwhile_bits = config.worthwhile_bits
        self._student_pixels = student[0] * student[1]
        self._width, self._height = config.frame_width or student[0], config.frame_height or student[1]
        self._scale = SCALES[0]

    def choose(self, bits: float) -> tuple[int, int]:
        """Return the width and height from now on, when a frame may have so many `bits`."""
        if not self._given:
            grown, shrunk = self._largest(bits / BITS_PER_PIXEL), self._largest(bits / LEAST_BITS_PER_PIXEL)
            self._scale = min(max(self._scale, grown), shrunk)
        return self._size(self._scale)

    @property
    def worthwhile_bits(self) -> float:
        """Bits that make a frame worth labelling; 0.0 for any."""
        width, height = self._size(SCALES[0])
        return self._worthwhile_bits * min(self._student_pixels, width * height)

    def wanted_bits(self, bps: float) -> float:
        """Return the bits that a frame should have, where all frames together have `bps` bit/s."""
        return wanted_bits(self.worthwhile_bits, bps)

    @property
    def most_pixels(self) -> int:
        """Pixels of the largest frame that is ever asked for: one may be on its way still when smaller ones are wanted."""
        width, height = self._size(SCALES[0] if self._given else self._largest(MOST_PIXELS))
        return width * height

    def _largest(self, pixels: float) -> float:
        most = min(pixels, MOST_PIXELS) / (self._width * self._height)
        return max((scale for scale in SCALES if scale**2 <= most), default=SCALES[0])

    def _size(self, scale: float) -> tuple[int, int]:
        width, height = round(scale * self._width), round(scale * self._height)
        return width + width % 2, height + height % 2
