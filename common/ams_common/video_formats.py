"""The video formats that frame batches may have: how each is encoded, and what is looked at before it is decoded."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import av
from av.codec.codec import UnknownCodecError

from ams_common import av1, h264, hevc
from ams_common.bits import PictureSize
from ams_common.errors import ConfigurationError

VideoCodec: TypeAlias = Literal["h264", "hevc", "av1"]
VIDEO_CODEC: VideoCodec = "h264"
"""What every edge and every server can do."""
_X264_PARAMETERS = "bframes=0:mbtree=0:qcomp=1:aq-strength=1.5:chromaloc=1"
"""Frames far apart gain nothing from B frames, and without them the order of decoding is that of presentation. Without the
macroblock tree equal frames give equal bytes, at 0.1 dB (it reads stray memory at some sizes). With `qcomp` 1 the rate factor
is the quantiser, in fractions, which adaptive quantisation spreads over the blocks: the more, the better a teacher's labels at
the same size (by 1 to 4 points of mIoU against strength 1), though not the PSNR; above 2 they get worse. `chromaloc` says where
the conversion to 4:2:0 puts chroma samples; unsaid, a decoder shifts them by half a pixel (40 instead of 49 dB)."""
_X265_PARAMETERS = "bframes=0:cutree=0:qcomp=1:chromaloc=1:pools=none:frame-threads=1:info=0:log-level=none"
"""The same of x265, on one thread."""
_SVT_AV1_PARAMETERS = (
    "pred-struct=1:lp=1:use-fixed-qindex-offsets=1:key-frame-qindex-offset=0:qindex-offsets=[0,0,0,0,0,0]:crf={quantiser:.2f}"
)
"""Low delay, so that each packet holds the picture that it shows, on one thread; all frames at one quantiser: by itself the
encoder gives the first one two thirds of the bytes."""

# Read by SVT-AV1 when it is first used: otherwise it prints its settings for every batch.
os.environ.setdefault("SVT_LOG", "1")


@dataclass(frozen=True, kw_only=True)
class VideoFormat:
    """One of them. Quantisers are the encoder's own."""

    encoder: str
    """FFmpeg's name of the encoder."""
    decoder: str
    """FFmpeg's name of the decoder."""
    options: Callable[[float], Mapping[str, str]]
    """Options of the encoder for a quantiser."""
    finest: float
    """Street pictures have 40 dB then, and the labels of a teacher hardly differ from those of the originals."""
    coarsest: float
    """Street pictures have some 25 dB then, and half as many frames with twice the bits teach as much or more."""
    last: float
    """For a frame that is the only one left."""
    without_notes: Callable[[bytes], bytes]
    """Drops from a packet what no decoder needs."""
    announced_sizes: Callable[[bytes], list[PictureSize]]
    """Returns the sizes that a packet's parameter sets announce; raises CodecError unless it holds one ordinary picture."""


VIDEO_FORMATS: Mapping[str, VideoFormat] = {
    "h264": VideoFormat(
        encoder="libx264",
        decoder="h264",
        options=lambda quantiser: {"preset": "medium", "x264-params": _X264_PARAMETERS, "crf": f"{quantiser:.3f}"},
        finest=12.0,
        coarsest=36.0,
        last=51.0,
        without_notes=h264.SYNTAX.without_notes,
        announced_sizes=h264.SYNTAX.announced_sizes,
    ),
    "hevc": VideoFormat(
        encoder="libx265",
        decoder="hevc",
        options=lambda quantiser: {"preset": "fast", "x265-params": _X265_PARAMETERS, "crf": f"{quantiser:.3f}"},
        finest=12.0,
        coarsest=38.0,
        last=51.0,
        without_notes=hevc.SYNTAX.without_notes,
        announced_sizes=hevc.SYNTAX.announced_sizes,
    ),
    "av1": VideoFormat(
        encoder="libsvtav1",
        decoder="libdav1d",
        options=lambda quantiser: {"preset": "6", "svtav1-params": _SVT_AV1_PARAMETERS.format(quantiser=quantiser)},
        finest=10.0,
        coarsest=46.0,
        last=63.0,
        without_notes=av1.without_notes,
        announced_sizes=av1.announced_sizes,
    ),
}


def can_encode(video_codec: str) -> bool:
    """Tell whether this machine's build of FFmpeg has the encoder."""
    return video_codec in VIDEO_FORMATS and _has(VIDEO_FORMATS[video_codec].encoder, "w")


def require_encoder(video_codec: str) -> None:
    """See that this machine can encode.

    Raises:
        ConfigurationError: it cannot; the message names what it can.
    """
    if not can_encode(video_codec):
        there = ", ".join(filter(can_encode, VIDEO_FORMATS)) or "none"
        raise ConfigurationError(
            f"--video-codec {video_codec} needs an encoder that this build of PyAV does not have, "
            f"{VIDEO_FORMATS[video_codec].encoder}; there is one for: {there}"
        )


def can_decode(video_codec: str) -> bool:
    """Tell whether this machine's build of FFmpeg has the decoder."""
    return video_codec in VIDEO_FORMATS and _has(VIDEO_FORMATS[video_codec].decoder, "r")


def _has(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.Codec(name, mode)
    except UnknownCodecError:
        return False
    return True
