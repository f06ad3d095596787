"""RGB arrays to the pictures of a video codec and back: 8-bit 4:2:0, BT.709 matrix, limited range."""

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from ams_common.classes import UInt8Array

BT709 = 1
"""Code point of BT.709 in ITU-T H.273, for matrix, primaries and transfer alike."""
_SCALING = 0x20 | 0x40000 | 0x2000
"""libswscale's SWS_AREA, SWS_ACCURATE_RND and SWS_FULL_CHR_H_INT; PyAV before 18 has no names for the last two, without which
the conversion there and back darkens a picture by one level (41 instead of 53 dB)."""


def to_yuv(frame: UInt8Array) -> av.VideoFrame:
    """Return an RGB frame, uint8 [H, W, 3] of even sides, as a picture."""
    return av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=_SCALING,
    )


def to_rgb(picture: av.VideoFrame) -> UInt8Array:
    """Return a picture as RGB, uint8 [H, W, 3], whatever it says about its matrix."""
    converted = picture.reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_SCALING,
    )
    return np.asarray(converted.to_ndarray(), np.uint8)
