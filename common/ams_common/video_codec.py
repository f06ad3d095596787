"""Frame batches: a few sampled frames as one short H.264 stream, made to fit a number of bytes.

Bytes: bare packets in decoding order, each holding one picture as NAL units behind start codes (ITU-T H.264 annex B), the
first one also the parameter sets; no container. Pictures are 8-bit 4:2:0, BT.709 matrix, limited range, whatever the stream
says about its matrix; the position of its chroma samples is believed.

Legend: N frames of H x W pixels.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace

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

VIDEO_CODEC = "h264"
_ACCEPTED_NAL_TYPES = {NAL_SLICE, NAL_IDR_SLICE, NAL_SEI, NAL_SEQUENCE_PARAMETERS, NAL_PICTURE_PARAMETERS, NAL_DELIMITER}
_SLICE_TYPES = {NAL_SLICE, NAL_IDR_SLICE}
_ATTEMPTS = 4
_SAFETY = 0.96
"""Share of the target aimed at after a miss."""
_FINEST_QUANTISER, _COARSEST_QUANTISER = 1, 69
"""Constant quantisers of x264; 0 would be lossless, which needs another profile."""
_BT709 = 1
"""Code point of BT.709 in ITU-T H.273, for matrix, primaries and transfer alike."""
_X264_PARAMETERS = "bframes=0:mbtree=0:chromaloc=1"
"""Frames far apart gain nothing from B frames: without them a batch fills its target better (0.96 instead of 0.88 of 250 kB),
is 0.1-0.5 dB better and coded faster. Without the macroblock tree equal frames give equal bytes, at 0.1 dB (it reads stray
memory at some sizes). `chromaloc` says where the conversion to 4:2:0 puts chroma samples; unsaid, a decoder shifts them by half
a pixel (40 instead of 49 dB)."""
_SCALING = 0x20 | 0x40000 | 0x2000
"""libswscale's SWS_AREA, SWS_ACCURATE_RND and SWS_FULL_CHR_H_INT; PyAV before 18 has no names for the last two, without which
the conversion there and back darkens a picture by one level (41 instead of 53 dB)."""

Packets = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True)
class EncodedFrames:
    """The compressed form of a batch of frames."""

    packets: Packets
    """(presentation index, data) in decoding order; without B frames the two orders are one."""

    @property
    def size_bytes(self) -> int:
        """Bytes of compressed video."""
        return sum(len(data) for _, data in self.packets)


def encode_frames(
    frames: Sequence[UInt8Array],
    capture_times_us: Sequence[int],
    *,
    target_bytes: int,
    scratch: Path | None = None,
) -> EncodedFrames:
    """Compress frames into at most `target_bytes` by x264 in two passes, preset medium, on the caller's thread.

    A single frame, and what the rate control keeps missing, is coded at the finest constant quantiser that fits.

    Two passes were measured against a single one with average bit rate and VBV, both repeated at a lower rate until they fit.
    On seven clips of 9-10 street and indoor frames at 512x256, one core, the quality at equal size is the same and two passes
    need fewer repetitions:

    | target kB | two passes: bytes/target, PSNR dB, ms | single pass, VBV |
    |---|---|---|
    | 250 | 0.96, 40.6, 216 | 0.97, 40.9, 271 |
    | 62.5 | 0.98, 34.4, 112 | 0.94, 34.2, 168 |
    | 20 | 0.95, 29.8, 67 | 0.93, 29.5, 110 |

    Equal frames give equal bytes.

    Args:
        frames: N >= 1 RGB pictures, uint8 [H, W, 3], all of one even H and W.
        capture_times_us: N increasing capture times; they give the frame rate.
        target_bytes: most bytes that the packets may have together.
        scratch: folder for x264's statistics between the passes, best in memory; None for the system's temporary folder.

    Raises:
        CodecError: the frames have an odd side or differ in size, or not even the coarsest quantiser reaches the target; the
            message names the least.
        OSError: `scratch` cannot be written to.
    """
    _check_frames(frames, capture_times_us)
    pictures = [_to_yuv(frame) for frame in frames]
    frame_rate = _frame_rate(capture_times_us)
    if len(pictures) == 1:
        return _encode_by_quantiser(pictures, frame_rate, target_bytes)
    with tempfile.TemporaryDirectory(prefix="ams-video-", dir=scratch) as folder:
        encoded = _encode_in_two_passes(pictures, frame_rate, target_bytes, str(Path(folder) / "x264"))
    return encoded or _encode_by_quantiser(pictures, frame_rate, target_bytes)


def _encode_in_two_passes(
    pictures: list[av.VideoFrame], frame_rate: Fraction, target_bytes: int, statistics: str
) -> EncodedFrames | None:
    """Return None where x264 finds the rate too low or keeps missing it."""
    _run_x264(pictures, frame_rate, {"flags": "+pass1", "passlogfile": statistics}, target_bytes)
    aim_bytes = target_bytes
    for _ in range(_ATTEMPTS):
        try:
            encoded = _run_x264(pictures, frame_rate, {"flags": "+pass2", "passlogfile": statistics}, aim_bytes)
        except CodecError:
            return None
        if encoded.size_bytes <= target_bytes:
            return encoded
        aim_bytes = int(aim_bytes * _SAFETY * target_bytes / encoded.size_bytes)
    return None


def _encode_by_quantiser(pictures: list[av.VideoFrame], frame_rate: Fraction, target_bytes: int) -> EncodedFrames:
    encoded, best = None, None
    finest, coarsest = _FINEST_QUANTISER, _COARSEST_QUANTISER
    while finest <= coarsest:
        quantiser = (finest + coarsest) // 2
        encoded = _run_x264(pictures, frame_rate, {"qp": str(quantiser)})
        if encoded.size_bytes <= target_bytes:
            best, coarsest = encoded, quantiser - 1
        else:
            finest = quantiser + 1
    if best is not None:
        return best
    assert encoded is not None, "the last one was the coarsest"
    raise CodecError(
        f"{len(pictures)} frames do not fit into {target_bytes} bytes: the least is {encoded.size_bytes}, "
        "send fewer or smaller frames or raise the uplink budget"
    )


def _check_frames(frames: Sequence[UInt8Array], capture_times_us: Sequence[int]) -> None:
    if not frames or len(frames) != len(capture_times_us):
        raise CodecError(f"{len(frames)} frames with {len(capture_times_us)} capture times cannot be encoded")
    height, width, _ = frames[0].shape
    if height % 2 or width % 2:
        raise CodecError(f"frames of {width}x{height} cannot be encoded: both sides must be even")
    if any(frame.shape != (height, width, 3) or frame.dtype != np.uint8 for frame in frames):
        raise CodecError(f"frames of one batch differ in size: {sorted({frame.shape for frame in frames})}")


def _frame_rate(capture_times_us: Sequence[int]) -> Fraction:
    """Return frames per second, from 1 to 60.

    x264 spends a bit rate, so it must be told the true rate or it misses the target; one that is slower than a frame a second
    it treats as one, and it counts in whole kbit/s, too coarse for slower ones.
    """
    span_us = capture_times_us[-1] - capture_times_us[0]
    frames_us = (len(capture_times_us) - 1) * 1_000_000
    if span_us >= frames_us:
        return Fraction(1)
    return min(Fraction(60), Fraction(frames_us, max(1, span_us))).limit_denominator(1000)


def _run_x264(
    pictures: list[av.VideoFrame], frame_rate: Fraction, options: dict[str, str], aim_bytes: int | None = None
) -> EncodedFrames:
    context = VideoCodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = pictures[0].width, pictures[0].height, "yuv420p"
    context.framerate, context.time_base = frame_rate, 1 / frame_rate
    context.thread_count = 1
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = ColorRange.MPEG
    context.options = {"preset": "medium", "x264-params": _X264_PARAMETERS, **options}
    if aim_bytes is not None:
        context.bit_rate = max(1000, int(aim_bytes * 8 * frame_rate / len(pictures)))
    packets = []
    try:
        for picture in [*_in_order(pictures, context.time_base), None]:
            packets += [(_index(packet.pts), _without_sei(bytes(packet))) for packet in context.encode(picture)]
    except FFmpegError as error:
        raise CodecError(f"x264 failed: {error.strerror}") from error
    # The context ends here, and with it x264 writes its statistics.
    return EncodedFrames(tuple(packets))


def _index(timestamp: int | None) -> int:
    assert timestamp is not None, "x264 hands back the presentation index that it was given"
    return timestamp


def _in_order(pictures: list[av.VideoFrame], time_base: Fraction) -> list[av.VideoFrame]:
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
        frame[...] = _to_rgb(picture)
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


def _to_yuv(frame: UInt8Array) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
        format="yuv420p",
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
        interpolation=_SCALING,
    )


def _to_rgb(picture: av.VideoFrame) -> UInt8Array:
    converted = picture.reformat(
        format="rgb24",
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=_SCALING,
    )
    return np.asarray(converted.to_ndarray(), np.uint8)
