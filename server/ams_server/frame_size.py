"""The size of the frames that a device sends: as large as the bits for each of them allow.

Pixels that are few are labelled worse, and so are pixels that are coarse. On two drives of CamVid at 25 kbit/s, a student of
208x160 learnt more from frames of 480x360 (mIoU 1.3 and 3.0 points higher) than from frames of its own size. When half of them
were left out for the sake of the others, as the encoder does with frames that get too coarse, it learnt no less, and in the one
drive more.
"""

from ams_common.settings import PartConfig

BITS_PER_PIXEL = 0.15
"""From here on larger frames are asked for."""
LEAST_BITS_PER_PIXEL = 0.1
"""Below this smaller frames are asked for; between the two the size stays, so that not every change of the rate changes it.
Fewer frames are asked for where the smallest ones would have less."""
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


class FrameSize:
    """Size of one device's frames. Both sides are even, as video has them, so that an odd one of the student is one larger."""

    def __init__(self, config: FrameConfig, student: tuple[int, int]) -> None:
        """Start at the size of the `student`, (width, height), or what `config` says.

        Where that names one side alone, the other is the student's.
        """
        self._given = bool(config.frame_width or config.frame_height)
        self._width, self._height = config.frame_width or student[0], config.frame_height or student[1]
        self._scale = SCALES[0]

    def choose(self, bits: float) -> tuple[int, int]:
        """Return the width and height from now on, when a frame may have so many `bits`."""
        if not self._given:
            grown, shrunk = self._largest(bits / BITS_PER_PIXEL), self._largest(bits / LEAST_BITS_PER_PIXEL)
            self._scale = min(max(self._scale, grown), shrunk)
        return self._size(self._scale)

    @property
    def least_bits(self) -> float:
        """Bits that a frame of the smallest size that is asked for should have at least."""
        width, height = self._size(SCALES[0])
        return LEAST_BITS_PER_PIXEL * width * height

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
