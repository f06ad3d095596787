"""Frame batches: into the budget, out again, and streams from people who mean harm."""

import dataclasses
import pathlib
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_common import video_codec
from ams_common.classes import UInt8Array
from ams_common.errors import CodecError
from ams_common.h264 import NAL_SEI, NAL_SEQUENCE_PARAMETERS, nal_type, parse_picture_size
from ams_common.messages import FrameBatch
from ams_common.nal_units import join_nal_units, split_nal_units
from ams_common.video_codec import EncodedFrames, decode_frames, encode_frames
from ams_common.video_fit import Packets
from ams_common.video_formats import VIDEO_CODEC, VIDEO_FORMATS, VideoFormat
from ams_common.video_pictures import to_yuv

WIDTH, HEIGHT = 96, 64
STREAMS = pathlib.Path(__file__).parents[2].parent / "shared" / "data" / "streams"


def picture(shift: int, width: int = WIDTH, height: int = HEIGHT) -> UInt8Array:
    """A colourful, smooth picture that moves with `shift`."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    waves = [np.sin((x + 5 * shift) / 9), np.sin((y - 3 * shift) / 11 + 1), np.sin((x + y) / 17 + shift)]
    return np.stack([127.5 + 110 * wave for wave in waves], axis=-1).astype(np.uint8)


def noise(seed: int) -> UInt8Array:
    """A picture that resembles no other and costs many bytes."""
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)


def seconds(count: int, step_s: float = 1.0) -> tuple[int, ...]:
    return tuple(round(1e6 * step_s * number) for number in range(count))


def batch_of(encoded: EncodedFrames, width: int = WIDTH, height: int = HEIGHT) -> FrameBatch:
    return FrameBatch(
        batch_id=1,
        video_codec=VIDEO_CODEC,
        width=width,
        height=height,
        capture_times_us=seconds(len(encoded.packets)),
        packets=encoded.packets,
    )


def decode(batch: FrameBatch) -> UInt8Array:
    return decode_frames(batch, max_pixels=1 << 20, max_frames=20)


def psnr_db(first: UInt8Array, second: UInt8Array) -> float:
    error = np.square(first.astype(np.float64) - second.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / error))


FRAMES = [picture(shift) for shift in range(6)]
ENCODED = encode_frames(FRAMES, target_bytes=12_000)
BATCH = batch_of(ENCODED)


@pytest.mark.parametrize("target_bytes", [2000, 5000, 20_000, 10**7])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_batch_fits_its_target_and_comes_back_in_order(count: int, target_bytes: int) -> None:
    frames = [picture(3 * shift) for shift in range(count)]
    encoded = encode_frames(frames, target_bytes=target_bytes)
    assert encoded.size_bytes == batch_of(encoded).payload_bytes <= target_bytes
    restored = decode(batch_of(encoded))
    assert restored.shape == (count, HEIGHT, WIDTH, 3)
    assert restored.dtype == np.uint8
    for index, frame in enumerate(restored):
        nearest = int(np.argmax([psnr_db(frame, original) for original in frames]))
        assert nearest == index


def test_more_bytes_give_a_better_picture() -> None:
    quality_db = []
    for target_bytes in (1000, 2000, 3000, 5000):
        encoded = encode_frames(FRAMES, target_bytes=target_bytes)
        quality_db.append(psnr_db(decode(batch_of(encoded)), np.array(FRAMES)))
    assert all(worse < better for worse, better in pairwise(quality_db))
    assert quality_db[-1] > 44


def test_bits_that_teach_nothing_are_not_spent() -> None:
    ample = encode_frames(FRAMES, target_bytes=10**6)
    assert ample == encode_frames(FRAMES, target_bytes=2 * ample.size_bytes)
    assert psnr_db(decode(batch_of(ample)), np.array(FRAMES)) > 44


def textured(seed: int) -> UInt8Array:
    """A picture of 192x160 whose texture grows from left to right."""
    texture = np.random.default_rng(seed).normal(0, 1, (160, 192, 3)) * np.linspace(1, 50, 192)[:, None]
    return np.clip(128 + texture, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("target_bytes", [2000, 5000, 12_000])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_batch_of_any_length_fills_its_bytes(count: int, target_bytes: int) -> None:
    frames = [textured(seed) for seed in range(count)]
    encoded = encode_frames(frames, target_bytes=count * target_bytes)
    assert encoded.kept == tuple(range(count))
    assert 0.95 * count * target_bytes <= encoded.size_bytes <= count * target_bytes


def test_the_same_frames_give_the_same_bytes() -> None:
    assert encode_frames(FRAMES, target_bytes=12_000) == ENCODED


def test_frames_are_left_out_evenly_before_they_become_mush() -> None:
    frames = [noise(seed) for seed in range(6)]
    every = encode_frames(frames, target_bytes=60_000)
    some = encode_frames(frames, target_bytes=3000)
    assert every.kept == (0, 1, 2, 3, 4, 5)
    assert some.kept in [(1, 3, 5), (2, 5)]
    assert 0.8 * 3000 < some.size_bytes <= 3000
    restored = decode(batch_of(some))
    assert [int(np.argmax([psnr_db(frame, original) for original in frames])) for frame in restored] == list(some.kept)


def test_where_the_first_picture_is_too_large_the_newest_frame_is_tried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a still scene the first picture has nearly all bytes, however many frames follow."""
    run_encoder, counts = video_codec._run_encoder, []

    def counting(video_format: VideoFormat, pictures: Sequence[av.VideoFrame], quantiser: float) -> Packets:
        counts.append(len(pictures))
        return run_encoder(video_format, pictures, quantiser)

    still = [noise(0)] * 30
    coarsest = VIDEO_FORMATS[VIDEO_CODEC].coarsest
    first_bytes = len(run_encoder(VIDEO_FORMATS[VIDEO_CODEC], [to_yuv(still[0])], coarsest)[0][1])
    monkeypatch.setattr(video_codec, "_run_encoder", counting)
    encoded = encode_frames(still, target_bytes=int(0.95 * first_bytes))
    assert encoded.kept == (29,)
    assert set(counts) == {30, 1}
    assert counts.count(30) <= 3
    assert len(counts) <= 12


def test_what_cannot_fit_is_refused_with_the_least() -> None:
    with pytest.raises(CodecError, match=r"a frame of 96x64 does not fit into 40 bytes: the least is \d+") as caught:
        encode_frames(FRAMES, target_bytes=40)
    least = int(str(caught.value).split("the least is ")[1].split(",")[0])
    encoded = encode_frames(FRAMES, target_bytes=least)
    assert encoded.size_bytes <= least < 400
    assert encoded.kept == (5,)
    with pytest.raises(CodecError, match="the least is"):
        encode_frames(FRAMES, target_bytes=least - 1)


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "batch without frames"),
        ([picture(0, width=95)] * 2, "95x64 cannot be encoded: both sides must be even"),
        ([picture(0), picture(1, height=62)], "differ in size"),
    ],
)
def test_frames_that_cannot_be_one_video_are_refused(frames: list[UInt8Array], message: str) -> None:
    with pytest.raises(CodecError, match=message):
        encode_frames(frames, target_bytes=10_000)


def test_x264_s_note_about_itself_is_not_sent() -> None:
    types = {nal_type(unit) for _, data in ENCODED.packets for unit in split_nal_units(data)}
    assert NAL_SEI not in types
    assert NAL_SEQUENCE_PARAMETERS in types


@pytest.mark.parametrize(
    "colour", [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 30, 90), (128, 128, 128)]
)
def test_colours_come_back(colour: tuple[int, int, int]) -> None:
    frame = np.broadcast_to(np.array(colour, np.uint8), (HEIGHT, WIDTH, 3))
    restored = decode(batch_of(encode_frames([frame], target_bytes=10_000)))
    assert np.abs(restored.astype(int) - frame).max() <= 3


def test_a_colourful_picture_survives_the_conversion() -> None:
    restored = decode(batch_of(encode_frames([picture(2)], target_bytes=60_000)))[0]
    assert psnr_db(restored, picture(2)) > 44
    assert np.abs(restored.mean((0, 1)) - picture(2).mean((0, 1))).max() < 0.3


def test_the_stream_is_bt709_of_limited_range_and_says_so() -> None:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[:] = (220, 60, 20)
    encoded = encode_frames([frame], target_bytes=10_000)
    context = VideoCodecContext.create("h264", "r")
    decoded = [*context.decode(av.Packet(encoded.packets[0][1])), *context.decode(None)][0]
    assert (decoded.colorspace, context.color_primaries, context.color_trc, decoded.color_range) == (1, 1, 1, 1)
    red, green, blue = (value / 255 for value in (220, 60, 20))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    expected = (16 + 219 * luma, 128 + 224 * (blue - luma) / 1.8556, 128 + 224 * (red - luma) / 1.5748)
    planes = decoded.to_ndarray()
    measured = planes[:HEIGHT].mean(), planes[HEIGHT : HEIGHT + HEIGHT // 4].mean(), planes[HEIGHT + HEIGHT // 4 :].mean()
    assert measured == pytest.approx(expected, abs=1.5)


@pytest.mark.parametrize("matrix", [0, 5, 9, 14])
def test_what_a_stream_says_about_its_matrix_changes_nothing(matrix: int) -> None:
    context = VideoCodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.framerate, context.time_base, context.colorspace = Fraction(1), Fraction(1), matrix
    context.options = {"x264-params": "chromaloc=1", "qp": "10"}
    packets = [*context.encode(to_yuv(picture(2))), *context.encode(None)]
    restored = decode(batch_of(EncodedFrames(((0, bytes(packets[0])),), (0,))))
    assert psnr_db(restored[0], picture(2)) > 45


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"video_codec": "theora"}, "'theora', this machine can decode h264"),
        ({"capture_times_us": ()}, "batch of 0 frames"),
        ({"capture_times_us": seconds(21)}, "batch of 21 frames, 1 to 20"),
        ({"capture_times_us": seconds(5)}, "6 packets that are not the pictures 0 to 4"),
        ({"capture_times_us": seconds(7)}, "6 packets that are not the pictures 0 to 6"),
        ({"packets": ENCODED.packets[:-1]}, "5 packets"),
        ({"packets": ()}, "0 packets"),
        ({"packets": (*ENCODED.packets[:-1], ENCODED.packets[0])}, "not the pictures"),
        ({"width": 1 << 20, "height": 1 << 20}, "at most 1048576 pixels"),
        ({"width": 95}, "even"),
        ({"width": 0}, "even"),
        ({"height": -64}, "even"),
        ({"width": 64, "height": 96}, "pictures of 96x64, the batch says 64x96"),
    ],
)
def test_fields_that_do_not_fit_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CodecError, match=message):
        decode(dataclasses.replace(BATCH, **changes))  # type: ignore[arg-type]  # the point is to try any field


def with_packet(position: int, data: bytes) -> FrameBatch:
    packets = list(BATCH.packets)
    packets[position] = (packets[position][0], data)
    return dataclasses.replace(BATCH, packets=tuple(packets))


def test_packets_in_another_order_than_they_claim_are_refused() -> None:
    (first, data), (second, other) = BATCH.packets[1:3]
    swapped = (BATCH.packets[0], (second, data), (first, other), *BATCH.packets[3:])
    with pytest.raises(CodecError):
        decode(dataclasses.replace(BATCH, packets=swapped))


LARGER = encode_frames([picture(0, 512, 512)], target_bytes=20_000).packets[0][1]


@pytest.mark.parametrize("position", [0, 3])
def test_a_larger_picture_anywhere_is_refused_before_decoding(position: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_codec, "_run_decoder", lambda *_: pytest.fail("decoded"))
    with pytest.raises(CodecError, match="pictures of 512x512, the batch says 96x64"):
        decode(with_packet(position, LARGER))


def test_cropping_hides_no_large_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    cropped = dataclasses.replace(parse_picture_size(split_nal_units(LARGER)[0]), width=96, height=64)
    blind = dataclasses.replace(VIDEO_FORMATS["h264"], announced_sizes=lambda _: [cropped])
    monkeypatch.setattr(video_codec, "VIDEO_FORMATS", {"h264": blind})
    with pytest.raises(CodecError, match="crops 512x512 to 96x64"):
        decode(BATCH)


def test_the_decoder_has_a_limit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    blind = dataclasses.replace(VIDEO_FORMATS["h264"], announced_sizes=lambda _: [])
    monkeypatch.setattr(video_codec, "VIDEO_FORMATS", {"h264": blind})
    with pytest.raises(CodecError, match="cannot be decoded"):
        decode(dataclasses.replace(BATCH, capture_times_us=(0,), packets=((0, LARGER),)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "packet of 0 pictures"),
        (b"no start code", "packet of 0 pictures"),
        (ENCODED.packets[1][1] + ENCODED.packets[2][1], "packet of 2 pictures"),
        (ENCODED.packets[1][1] + join_nal_units([b"\x6f\x42"]), "NAL unit of type 15"),
        (ENCODED.packets[1][1] + join_nal_units([b"\x62\x80"]), "NAL unit of type 2"),
    ],
)
def test_packets_hold_one_ordinary_picture(data: bytes, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        decode(with_packet(1, data))


def test_a_stream_without_parameter_sets_is_refused() -> None:
    units = [unit for unit in split_nal_units(BATCH.packets[0][1]) if nal_type(unit) == 5]
    with pytest.raises(CodecError):
        decode(with_packet(0, join_nal_units(units)))


def decode_or_refuse(batch: FrameBatch) -> None:
    try:
        frames = decode(batch)
    except CodecError:
        return
    assert frames.shape == (6, HEIGHT, WIDTH, 3)


@settings(max_examples=200, deadline=None)
@given(packet=st.integers(0, 5), edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
def test_a_mutated_stream_is_refused_or_has_the_right_shape(packet: int, edits: list[tuple[int, int]]) -> None:
    data = bytearray(BATCH.packets[packet][1])
    for position, value in edits:
        data[position % len(data)] ^= value
    decode_or_refuse(with_packet(packet, bytes(data)))


def test_a_picture_that_the_decoder_had_to_patch_is_refused() -> None:
    reasons = []
    for position in range(20, len(BATCH.packets[2][1]), 10):
        data = bytearray(BATCH.packets[2][1])
        data[position] ^= 16
        try:
            decode(with_packet(2, bytes(data)))
        except CodecError as error:
            reasons.append(str(error))
    assert any("is damaged" in reason for reason in reasons)
    assert any("cannot be decoded" in reason for reason in reasons)


@settings(max_examples=50, deadline=None)
@given(packet=st.integers(0, 5), share=st.floats(0, 1))
def test_a_truncated_stream_is_refused_or_has_the_right_shape(packet: int, share: float) -> None:
    data = BATCH.packets[packet][1]
    decode_or_refuse(with_packet(packet, data[: int(share * len(data))]))


@settings(max_examples=50, deadline=None)
@given(packet=st.integers(0, 5), payload=st.binary(max_size=300), kind=st.sampled_from([0x41, 0x65, 0x06, 0x67, 0x68, 0x09]))
def test_random_units_are_refused_or_have_the_right_shape(packet: int, payload: bytes, kind: int) -> None:
    extra = join_nal_units([bytes([kind]) + payload])
    decode_or_refuse(with_packet(packet, extra))
    decode_or_refuse(with_packet(packet, extra + BATCH.packets[packet][1]))


@pytest.mark.data
@pytest.mark.parametrize("target_bytes", [30_000, 125_000])
def test_real_street_frames(target_bytes: int) -> None:
    path = STREAMS / "camvid_0016E5_b.mp4"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    frames: list[UInt8Array] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            frames.append(np.asarray(frame.reformat(512, 256, "rgb24").to_ndarray(), np.uint8))
            if len(frames) == 10:
                break
    encoded = encode_frames(frames, target_bytes=target_bytes)
    assert 0.8 * target_bytes < encoded.size_bytes <= target_bytes
    restored = decode(batch_of(encoded, 512, 256))
    assert psnr_db(restored, np.array(frames)) > (28 if target_bytes == 30_000 else 35)
