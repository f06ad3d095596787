"""All video formats: into a given size and back, and streams from people who mean harm."""

import dataclasses
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ams_common import video_codec
from ams_common.av1 import Unit, join_units
from ams_common.classes import UInt8Array
from ams_common.errors import CodecError, ConfigurationError
from ams_common.messages import FrameBatch
from ams_common.nal_units import join_nal_units
from ams_common.video_codec import decode_frames, encode_frames
from ams_common.video_formats import VIDEO_FORMATS, VideoFormat, can_decode, can_encode, require_encoder

WIDTH, HEIGHT = 192, 160
CODECS = [name for name in VIDEO_FORMATS if can_encode(name) and can_decode(name)]
each_codec = pytest.mark.parametrize("codec", CODECS)
any_codec = st.sampled_from(CODECS)


def textured(seed: int, width: int = WIDTH, height: int = HEIGHT) -> UInt8Array:
    """A picture whose texture grows from left to right."""
    texture = np.random.default_rng(seed).normal(0, 1, (height, width, 3)) * np.linspace(1, 40, width)[:, None]
    return np.clip(128 + 20 * seed + texture, 0, 255).astype(np.uint8)


FRAMES = [textured(seed) for seed in range(4)]


def batch_of(codec: str, frames: list[UInt8Array], target_bytes: int) -> FrameBatch:
    encoded = encode_frames(frames, target_bytes=target_bytes, video_codec=codec)
    height, width, _ = frames[0].shape
    return FrameBatch(
        batch_id=1, video_codec=codec, width=width, height=height, capture_times_us=encoded.kept, packets=encoded.packets
    )


def decode(batch: FrameBatch) -> UInt8Array:
    return decode_frames(batch, max_pixels=WIDTH * HEIGHT, max_frames=4)


BATCHES = {codec: batch_of(codec, FRAMES, 16_000) for codec in CODECS}
LARGER = {codec: batch_of(codec, [textured(0, 512, 512)], 40_000).packets[0][1] for codec in CODECS}


def with_packet(batch: FrameBatch, position: int, data: bytes) -> FrameBatch:
    packets = list(batch.packets)
    packets[position] = (packets[position][0], data)
    return dataclasses.replace(batch, packets=tuple(packets))


def test_every_format_is_here_or_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"h264"} <= set(CODECS)
    missing = dataclasses.replace(VIDEO_FORMATS["av1"], encoder="libnothing", decoder="libnothing")
    monkeypatch.setattr("ams_common.video_formats.VIDEO_FORMATS", {"h264": VIDEO_FORMATS["h264"], "av1": missing})
    assert not can_encode("av1")
    assert not can_decode("av1")
    with pytest.raises(ConfigurationError, match=r"--video-codec av1 needs an encoder .*libnothing.* for: h264"):
        require_encoder("av1")
    assert not can_decode("theora")


@each_codec
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_batch_fills_its_bytes_and_comes_back(codec: str, count: int) -> None:
    batch = batch_of(codec, FRAMES[:count], 5000 * count)
    assert 0.95 * 5000 * count <= batch.payload_bytes <= 5000 * count
    restored = decode(batch)
    assert restored.shape == (count, HEIGHT, WIDTH, 3)
    for index, frame in enumerate(restored):
        distances = [np.abs(frame.astype(int) - original).mean() for original in FRAMES]
        assert int(np.argmin(distances)) == index


@each_codec
def test_the_same_frames_give_the_same_bytes(codec: str) -> None:
    assert batch_of(codec, FRAMES, 16_000) == BATCHES[codec]


@each_codec
@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (200, 30, 90)])
def test_colours_come_back(codec: str, colour: tuple[int, int, int]) -> None:
    frame = np.broadcast_to(np.array(colour, np.uint8), (HEIGHT, WIDTH, 3))
    restored = decode(batch_of(codec, [np.array(frame)], 10_000))
    assert np.abs(restored.astype(int) - frame).max() <= 4


def encodes(codec: str, frame: UInt8Array) -> bool:
    try:
        batch_of(codec, [frame], 20_000)
    except CodecError:
        return False
    return True


@each_codec
@pytest.mark.parametrize("size", [(2, 2), (16, 8), (34, 18), (66, 130), (258, 194)])
def test_odd_sizes_are_accepted_where_the_encoder_has_them(codec: str, size: tuple[int, int]) -> None:
    frame = textured(0, *size)
    if not encodes(codec, frame):
        assert min(size) < 64
        return
    batch = batch_of(codec, [frame], 20_000)
    restored = decode_frames(batch, max_pixels=size[0] * size[1], max_frames=1)
    assert restored.shape == (1, *frame.shape)


@each_codec
@pytest.mark.parametrize("position", [0, 2])
def test_a_larger_picture_anywhere_is_refused_before_decoding(
    codec: str, position: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_codec, "_run_decoder", lambda *_: pytest.fail("decoded"))
    with pytest.raises(CodecError, match=f"pictures of 512x512, the batch says {WIDTH}x{HEIGHT}"):
        decode(with_packet(BATCHES[codec], position, LARGER[codec]))


@each_codec
def test_the_decoder_has_a_limit_of_its_own(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    blind: VideoFormat = dataclasses.replace(VIDEO_FORMATS[codec], announced_sizes=lambda data: [])
    monkeypatch.setattr(video_codec, "VIDEO_FORMATS", {codec: blind})
    with pytest.raises(CodecError, match="cannot be decoded"):
        decode(dataclasses.replace(BATCHES[codec], capture_times_us=(0,), packets=((0, LARGER[codec]),)))


@each_codec
def test_packets_hold_one_ordinary_picture(codec: str) -> None:
    second, third = (data for _, data in BATCHES[codec].packets[1:3])
    for data in (b"", b"nothing of the kind", second + third, b"\x00" * 40, b"\xff" * 40):
        with pytest.raises(CodecError):
            decode(with_packet(BATCHES[codec], 1, data))


@each_codec
def test_packets_in_another_order_than_they_claim_are_refused_or_decoded(codec: str) -> None:
    (first, data), (second, other) = BATCHES[codec].packets[1:3]
    batch = BATCHES[codec]
    decode_or_refuse(dataclasses.replace(batch, packets=(batch.packets[0], (second, data), (first, other), batch.packets[3])))


def decode_or_refuse(batch: FrameBatch) -> None:
    try:
        frames = decode(batch)
    except CodecError:
        return
    assert frames.shape == (4, HEIGHT, WIDTH, 3)


@settings(max_examples=150, deadline=None)
@given(
    codec=any_codec,
    packet=st.integers(0, 3),
    edits=st.lists(st.tuples(st.integers(0, 40) | st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_a_mutated_stream_is_refused_or_has_the_right_shape(codec: str, packet: int, edits: list[tuple[int, int]]) -> None:
    data = bytearray(BATCHES[codec].packets[packet][1])
    for position, value in edits:
        data[position % len(data)] ^= value
    decode_or_refuse(with_packet(BATCHES[codec], packet, bytes(data)))


@settings(max_examples=60, deadline=None)
@given(codec=any_codec, packet=st.integers(0, 3), share=st.floats(0, 1))
def test_a_truncated_stream_is_refused_or_has_the_right_shape(codec: str, packet: int, share: float) -> None:
    data = BATCHES[codec].packets[packet][1]
    decode_or_refuse(with_packet(BATCHES[codec], packet, data[: int(share * len(data))]))


@settings(max_examples=60, deadline=None)
@given(codec=any_codec, packet=st.integers(0, 3), payload=st.binary(max_size=200), kind=st.integers(0, 40))
def test_random_units_are_refused_or_have_the_right_shape(codec: str, packet: int, payload: bytes, kind: int) -> None:
    unit = join_nal_units([bytes([kind << 1, 1]) + payload]) if codec == "hevc" else join_units([Unit(kind % 16, payload)])
    decode_or_refuse(with_packet(BATCHES[codec], packet, unit))
    decode_or_refuse(with_packet(BATCHES[codec], packet, unit + BATCHES[codec].packets[packet][1]))


@pytest.mark.data
@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "h264"])
def test_a_newer_format_makes_better_pictures_of_the_same_bytes(codec: str) -> None:
    path = Path(__file__).parents[2].parent / "shared" / "data" / "streams" / "camvid_0016E5_b.mp4"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    frames = read(path)
    errors = {}
    for name in ("h264", codec):
        batch = batch_of(name, frames, 25_000)
        restored = decode_frames(batch, max_pixels=480 * 360, max_frames=2)
        errors[name] = float(np.square(restored.astype(float) - np.array(frames)).mean())
    assert errors[codec] < errors["h264"]


def read(path: Path) -> list[UInt8Array]:
    with av.open(str(path)) as container:
        decoded = container.decode(video=0)
        return [np.asarray(next(decoded).to_ndarray(format="rgb24"), np.uint8) for _ in range(2)]
