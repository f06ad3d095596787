"""Frame batches: a few sampled frames as one short video, made to fill a number of bytes.

Bytes: bare packets in decoding order, each holding one picture, the first one also the parameter sets; no container. H.264 and
HEVC are NAL units behind start codes (annex B of ITU-T H.264 and H.265), AV1 is units with sizes (its low-overhead format).
Pictures are 8-bit 4:2:0, BT.709 matrix, limited range, whatever the stream says about its matrix; the position of its chroma
samples is believed.

Legend: N frames of H x W pixels.
"""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType
from av.video.reformatter import ColorRange

from ams_common.bits import PictureSize
from ams_common.classes import UInt8Array
from ams_common.errors import CodecError, system_reason
from ams_common.messages import FrameBatch
from ams_common.video_fit import Packets, QuantiserRange, evenly, fill, packets_bytes
from ams_common.video_formats import VIDEO_CODEC, VIDEO_FORMATS, VideoFormat, can_decode
from ams_common.video_pictures import BT709, to_rgb, to_yuv

_FRAME_RATE = Fraction(25)
"""Without a bit rate to keep, what the stream says about time changes nothing."""


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


def encode_frames(frames: Sequence[UInt8Array], *, target_bytes: int, video_codec: str = VIDEO_CODEC) -> EncodedFrames:
    """Compress frames into 95 to 100 % of `target_bytes` at one quantiser, on the caller's thread.

    It is less where the frames do not need that much at the format's finest quantiser, and for pictures so small that a step of
    the quantiser is larger than 5 %. Where not all frames fit at the coarsest, some are left out, evenly, and the newest stays:
    all others where the first picture alone is too large.

    Equal frames give equal bytes.

    Args:
        frames: N >= 1 RGB pictures, uint8 [H, W, 3], all of one even H and W.
        target_bytes: most bytes that the packets may have together.
        video_codec: one of VIDEO_FORMATS that this machine can encode.

    Raises:
        CodecError: the frames have an odd side or differ in size, not even the last one reaches the target at the coarsest
            quantiser (the message names the least), or the encoder is missing or fails.
    """
    video_format = VIDEO_FORMATS[video_codec]
    _check_frames(frames)
    pictures = [to_yuv(frame) for frame in frames]
    kept = list(range(len(pictures)))
    while True:
        chosen = [pictures[index] for index in kept]
        encode = functools.partial(_run_encoder, video_format, chosen)
        packets, last = fill(encode, target_bytes, _quantisers(video_format, chosen, target_bytes))
        if packets is not None:
            return EncodedFrames(packets, tuple(kept))
        if len(kept) == 1:
            raise CodecError(
                f"a frame of {frames[0].shape[1]}x{frames[0].shape[0]} does not fit into {target_bytes} bytes: "
                f"the least is {packets_bytes(last)}, send smaller frames or raise the uplink budget"
            )
        kept = evenly(len(pictures), _fewer(len(kept), last, target_bytes))


def _fewer(count: int, packets: Packets, target_bytes: int) -> int:
    """Return how many of `count` frames to try where `packets`, at the coarsest quantiser, are more than `target_bytes`.

    One where the first picture alone is too large: the others come from it, and leaving out some of them makes it no smaller.
    """
    first_bytes = len(packets[0][1])
    fitting = count * target_bytes // packets_bytes(packets)
    return 1 if first_bytes > target_bytes else max(1, min(count - 1, fitting))


def _check_frames(frames: Sequence[UInt8Array]) -> None:
    if not frames:
        raise CodecError("a batch without frames cannot be encoded")
    height, width, _ = frames[0].shape
    if height % 2 or width % 2:
        raise CodecError(f"frames of {width}x{height} cannot be encoded: both sides must be even")
    if any(frame.shape != (height, width, 3) or frame.dtype != np.uint8 for frame in frames):
        raise CodecError(f"frames of one batch differ in size: {sorted({frame.shape for frame in frames})}")


def _quantisers(video_format: VideoFormat, pictures: Sequence[av.VideoFrame], target_bytes: int) -> QuantiserRange:
    coarsest = video_format.coarsest if len(pictures) > 1 else video_format.last
    pixels = len(pictures) * pictures[0].width * pictures[0].height
    usual = 20 + 4 / len(pictures) - 5.1 * math.log2(8 * target_bytes / pixels)
    return QuantiserRange(video_format.finest, min(max(usual, video_format.finest), coarsest), coarsest)


def _run_encoder(video_format: VideoFormat, pictures: Sequence[av.VideoFrame], quantiser: float) -> Packets:
    packets: list[tuple[int, bytes]] = []
    try:
        context = VideoCodecContext.create(video_format.encoder, "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height, context.pix_fmt = pictures[0].width, pictures[0].height, "yuv420p"
        context.framerate, context.time_base = _FRAME_RATE, 1 / _FRAME_RATE
        context.thread_count = 1
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = ColorRange.MPEG
        context.options = dict(video_format.options(quantiser))
        for picture in [*_in_order(pictures, context.time_base), None]:
            packets += [(_index(packet.pts), video_format.without_notes(bytes(packet))) for packet in context.encode(picture)]
    except (FFmpegError, UnknownCodecError) as error:
        raise CodecError(f"encoder {video_format.encoder} failed: {error}") from error
    return tuple(packets)


def _index(timestamp: int | None) -> int:
    assert timestamp is not None, "an encoder hands back the presentation index that it was given"
    return timestamp


def _in_order(pictures: Sequence[av.VideoFrame], time_base: Fraction) -> Sequence[av.VideoFrame]:
    for index, picture in enumerate(pictures):
        picture.pts, picture.time_base, picture.pict_type = index, time_base, PictureType.NONE
    return pictures


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
    video_format = VIDEO_FORMATS[batch.video_codec]
    for _, data in batch.packets:
        for size in video_format.announced_sizes(data):
            _check_picture_size(size, batch.width, batch.height)
    pictures = _run_decoder(batch, video_format.decoder)
    frames = np.empty((len(pictures), batch.height, batch.width, 3), np.uint8)
    for frame, picture in zip(frames, pictures, strict=True):
        frame[...] = to_rgb(picture)
    return frames


def _check_batch(batch: FrameBatch, max_pixels: int, max_frames: int) -> None:
    count = len(batch.capture_times_us)
    if not can_decode(batch.video_codec):
        known = ", ".join(filter(can_decode, VIDEO_FORMATS))
        raise CodecError(f"batch uses the video codec {batch.video_codec!r}, this machine can decode {known}")
    if not 1 <= count <= max_frames:
        raise CodecError(f"batch of {count} frames, 1 to {max_frames} are accepted")
    if batch.width < 2 or batch.height < 2 or batch.width % 2 or batch.height % 2:
        raise CodecError(f"batch of {batch.width}x{batch.height} frames: both sides must be even")
    if batch.width * batch.height > max_pixels:
        raise CodecError(f"batch of {batch.width}x{batch.height} frames, at most {max_pixels} pixels are accepted")
    if sorted(index for index, _ in batch.packets) != list(range(count)):
        raise CodecError(f"batch has {len(batch.packets)} packets that are not the pictures 0 to {count - 1}")


def _check_picture_size(size: PictureSize, width: int, height: int) -> None:
    if (size.width, size.height) != (width, height):
        raise CodecError(f"video has pictures of {size.width}x{size.height}, the batch says {width}x{height}")
    if size.coded_width >= width + 16 or size.coded_height >= height + 16:
        raise CodecError(f"video crops {size.coded_width}x{size.coded_height} to {width}x{height}, which no encoder needs")


def _run_decoder(batch: FrameBatch, decoder: str) -> list[av.VideoFrame]:
    context = VideoCodecContext.create(decoder, "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_type, context.thread_count = "NONE", 1
    # A second line of defence behind announced_sizes, and no concealment of damage.
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
        raise CodecError(f"video cannot be decoded: {system_reason(error)}") from error
    _check_pictures(pictures, batch)
    return pictures


def _check_pictures(pictures: list[av.VideoFrame], batch: FrameBatch) -> None:
    if [picture.pts for picture in pictures] != list(range(len(batch.capture_times_us))):
        raise CodecError(f"video decodes to {len(pictures)} frames, the batch says {len(batch.capture_times_us)}")
    for picture in pictures:
        if picture.is_corrupt or (picture.width, picture.height, picture.format.name) != (batch.width, batch.height, "yuv420p"):
            raise CodecError(f"frame {picture.pts} of the video is damaged or not of limited range")
