"""Frame batches: a few sampled frames as one short H.264 stream, made to fill a number of bytes.

Bytes: bare packets in decoding order, each holding one picture as NAL units behind start codes (ITU-T H.264 annex B), the
first one also the parameter sets; no container. Pictures are 8-bit 4:2:0, BT.709 matrix, limited range, whatever the stream
says about its matrix; the position of its chroma samples is believed.

Legend: N frames of H x W pixels.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange

from ams_common.classes import UInt8Array
from ams_common.errors import CodecError
from ams_common.h264 import (
    NAL_DELIMITER,
    NAL_IDR_SLICE,
    NAL_PICTURE_PARAMETERS,
    NAL_SEI,
    NAL_SEQUENCE_PARAMETERS,
    NAL_SLICE,
    join_nal_units,
    nal_type,
    parse_picture_size,
    split_nal_units,
    starts_picture,
)
from ams_common.messages import FrameBatch
from ams_common.video_fit import Packets, QuantiserRange, evenly, fill, packets_bytes
from ams_common.video_pictures import BT709, to_rgb, to_yuv

VIDEO_CODEC = "h264"
FINEST_QUANTISER = 12.0
"""Street pictures have 40 dB then, and the labels of a teacher hardly differ from those of the originals."""
COARSEST_QUANTISER = 38.0
"""At 26 dB a teacher labels every third pixel of a street differently than in the original: fewer, finer frames teach more."""
_LAST_QUANTISER = 51.0
"""For a frame that is the only one left."""
_ACCEPTED_NAL_TYPES = {NAL_SLICE, NAL_IDR_SLICE, NAL_SEI, NAL_SEQUENCE_PARAMETERS, NAL_PICTURE_PARAMETERS, NAL_DELIMITER}
_SLICE_TYPES = {NAL_SLICE, NAL_IDR_SLICE}
_FRAME_RATE = Fraction(25)
"""Without a bit rate to keep, what the stream says about time changes nothing."""
_X264_PARAMETERS = "bframes=0:mbtree=0:qcomp=1:chromaloc=1"
"""Frames far apart gain nothing from B frames, and without them the order of decoding is that of presentation. Without the
macroblock tree equal frames give equal bytes, at 0.1 dB (it reads stray memory at some sizes). With `qcomp` 1 the rate factor
is the quantiser, in fractions, which adaptive quantisation spreads over the blocks. `chromaloc` says where the conversion to
4:2:0 puts chroma samples; unsaid, a decoder shifts them by half a pixel (40 instead of 49 dB)."""


@dataclass(frozen=True)
class EncodedFrames:
    """The compressed form of a batch of frames."""

    packets: Packets
    """Without B frames the order of decoding is that of presentation."""
    kept: tuple[int, ...]
    """Indices of the frames that are in it, ascending."""

    @property
    def size_bytes(self) -> int:
        """Bytes of compressed video."""
        return packets_bytes(self.packets)


def encode_frames(frames: Sequence[UInt8Array], *, target_bytes: int) -> EncodedFrames:
    """Compress frames into 95 to 100 % of `target_bytes` by x264 at one quantiser, preset medium, on the caller's thread.

    It is less where the frames do not need that much at FINEST_QUANTISER, and for pictures so small that a step of the
    quantiser is larger than 5 %. Where not all frames fit at COARSEST_QUANTISER, some are left out, evenly, and the newest
    stays.

    Equal frames give equal bytes.

    Args:
        frames: N >= 1 RGB pictures, uint8 [H, W, 3], all of one even H and W.
        target_bytes: most bytes that the packets may have together.

    Raises:
        CodecError: the frames have an odd side or differ in size, or not even the last one reaches the target at the coarsest
            quantiser; the message names the least.
    """
    _check_frames(frames)
    pictures = [to_yuv(frame) for frame in frames]
    kept = list(range(len(pictures)))
    while True:
        chosen = [pictures[index] for index in kept]
        packets, last = fill(functools.partial(_run_x264, chosen), target_bytes, _quantisers(chosen, target_bytes))
        if packets is not None:
            return EncodedFrames(packets, tuple(kept))
        least_bytes = packets_bytes(last)
        if len(kept) == 1:
            raise CodecError(
                f"a frame of {frames[0].shape[1]}x{frames[0].shape[0]} does not fit into {target_bytes} bytes: "
                f"the least is {least_bytes}, send smaller frames or raise the uplink budget"
            )
        kept = evenly(len(pictures), max(1, min(len(kept) - 1, len(kept) * target_bytes // least_bytes)))


def _check_frames(frames: Sequence[UInt8Array]) -> None:
    if not frames:
        raise CodecError("a batch without frames cannot be encoded")
    height, width, _ = frames[0].shape
    if height % 2 or width % 2:
        raise CodecError(f"frames of {width}x{height} cannot be encoded: both sides must be even")
    if any(frame.shape != (height, width, 3) or frame.dtype != np.uint8 for frame in frames):
        raise CodecError(f"frames of one batch differ in size: {sorted({frame.shape for frame in frames})}")


def _quantisers(pictures: Sequence[av.VideoFrame], target_bytes: int) -> QuantiserRange:
    coarsest = COARSEST_QUANTISER if len(pictures) > 1 else _LAST_QUANTISER
    pixels = len(pictures) * pictures[0].width * pictures[0].height
    usual = 20 + 4 / len(pictures) - 5.1 * math.log2(8 * target_bytes / pixels)
    return QuantiserRange(FINEST_QUANTISER, min(max(usual, FINEST_QUANTISER), coarsest), coarsest)


def _run_x264(pictures: Sequence[av.VideoFrame], quantiser: float) -> Packets:
    context = VideoCodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = pictures[0].width, pictures[0].height, "yuv420p"
    context.framerate, context.time_base = _FRAME_RATE, 1 / _FRAME_RATE
    context.thread_count = 1
    context.colorspace = context.color_primaries = context.color_trc = BT709
    context.color_range = ColorRange.MPEG
    context.options = {"preset": "medium", "x264-params": _X264_PARAMETERS, "crf": f"{quantiser:.3f}"}
    packets: list[tuple[int, bytes]] = []
    try:
        for picture in [*_in_order(pictures, context.time_base), None]:
            packets += [(_index(packet.pts), _without_sei(bytes(packet))) for packet in context.encode(picture)]
    except FFmpegError as error:
        raise CodecError(f"x264 failed: {error.strerror}") from error
    return tuple(packets)


def _index(timestamp: int | None) -> int:
    assert timestamp is not None, "x264 hands back the presentation index that it was given"
    return timestamp


def _in_order(pictures: Sequence[av.VideoFrame], time_base: Fraction) -> Sequence[av.VideoFrame]:
    for index, picture in enumerate(pictures):
        picture.pts, picture.time_base, picture.pict_type = index, time_base, PictureType.NONE
    return pictures


def _without_sei(data: bytes) -> bytes:
    """Drop x264's note about itself and its options, 700 bytes a batch that no decoder needs."""
    return join_nal_units([unit for unit in split_nal_units(data) if nal_type(unit) != NAL_SEI])


def decode_frames(batch: FrameBatch, *, max_pixels: int, max_frames: int) -> UInt8Array:
    """Decompress a batch that came from outside.

    Sizes are read from the parameter sets before anything is decoded; memory stays within a small multiple of
    max_frames x max_pixels x 3 bytes, and the work within max_frames pictures.

    Args:
        batch: the message.
        max_pixels: most pixels that one frame may have.
        max_frames: most frames that a batch may have.

    Returns:
        uint8 [N, H, W, 3] RGB in presentation order, N the number of capture times.

    Raises:
        CodecError: the batch is too large, is damaged, or does not hold what its fields say.
    """
    _check_batch(batch, max_pixels, max_frames)
    for _, data in batch.packets:
        _check_packet(data, batch.width, batch.height)
    pictures = _run_decoder(batch)
    frames = np.empty((len(pictures), batch.height, batch.width, 3), np.uint8)
    for frame, picture in zip(frames, pictures, strict=True):
        frame[...] = to_rgb(picture)
    return frames


def _check_batch(batch: FrameBatch, max_pixels: int, max_frames: int) -> None:
    count = len(batch.capture_times_us)
    if batch.video_codec != VIDEO_CODEC:
        raise CodecError(f"batch uses the video codec {batch.video_codec!r}, only {VIDEO_CODEC!r} is known")
    if not 1 <= count <= max_frames:
        raise CodecError(f"batch of {count} frames, 1 to {max_frames} are accepted")
    if batch.width < 2 or batch.height < 2 or batch.width % 2 or batch.height % 2:
        raise CodecError(f"batch of {batch.width}x{batch.height} frames: both sides must be even")
    if batch.width * batch.height > max_pixels:
        raise CodecError(f"batch of {batch.width}x{batch.height} frames, at most {max_pixels} pixels are accepted")
    if sorted(index for index, _ in batch.packets) != list(range(count)):
        raise CodecError(f"batch has {len(batch.packets)} packets that are not the pictures 0 to {count - 1}")


def _check_packet(data: bytes, width: int, height: int) -> None:
    units = split_nal_units(data)
    for unit in units:
        if nal_type(unit) not in _ACCEPTED_NAL_TYPES:
            raise CodecError(f"video has a NAL unit of type {nal_type(unit)}, which is not accepted")
        if nal_type(unit) == NAL_SEQUENCE_PARAMETERS:
            _check_picture_size(unit, width, height)
    pictures = sum(starts_picture(unit) for unit in units if nal_type(unit) in _SLICE_TYPES)
    if pictures != 1:
        raise CodecError(f"video has a packet of {pictures} pictures, each must hold one")


def _check_picture_size(unit: bytes, width: int, height: int) -> None:
    size = parse_picture_size(unit)
    if (size.width, size.height) != (width, height):
        raise CodecError(f"video has pictures of {size.width}x{size.height}, the batch says {width}x{height}")
    if size.coded_width >= width + 16 or size.coded_height >= height + 16:
        raise CodecError(f"video crops {size.coded_width}x{size.coded_height} to {width}x{height}, which no encoder needs")


def _run_decoder(batch: FrameBatch) -> list[av.VideoFrame]:
    context = VideoCodecContext.create("h264", "r")
    context.thread_type, context.thread_count = "NONE", 1
    # A second line of defence behind _check_packet, and no concealment of damage.
    limit = (batch.width + 64) * (batch.height + 64)
    context.options = {"max_pixels": str(limit), "err_detect": "explode"}
    pictures: list[av.VideoFrame] = []
    try:
        for index, data in batch.packets:
            packet = av.Packet(data)
            packet.pts = index
            pictures += context.decode(packet)
        pictures += context.decode(None)
    except FFmpegError as error:
        raise CodecError(f"video cannot be decoded: {error.strerror}") from error
    _check_pictures(pictures, batch)
    return pictures


def _check_pictures(pictures: list[av.VideoFrame], batch: FrameBatch) -> None:
    if [picture.pts for picture in pictures] != list(range(len(batch.capture_times_us))):
        raise CodecError(f"video decodes to {len(pictures)} frames, the batch says {len(batch.capture_times_us)}")
    for picture in pictures:
        if picture.is_corrupt or (picture.width, picture.height, picture.format.name) != (batch.width, batch.height, "yuv420p"):
            raise CodecError(f"frame {picture.pts} of the video is damaged or not of limited range")
