"""Frame batches: time, size and quality of encoding 10 frames of 512x256 into a budget, and of decoding them.

Without an argument the frames are a drawn scene that moves; with one they are taken from a video, one a second. Prints one line
per budget, then the bytes used relative to the bytes allowed over all of them.

    python benchmarks/video_codec.py [VIDEO]
"""

import argparse
import time
from itertools import islice

import av
import numpy as np

from ams_common.classes import UInt8Array
from ams_common.messages import FrameBatch
from ams_common.video_codec import VIDEO_CODEC, decode_frames, encode_frames

WIDTH, HEIGHT, FRAMES = 512, 256, 10
TARGETS_BYTES = (20_000, 62_500, 250_000)
TIMES_US = tuple(1_000_000 * number for number in range(FRAMES))


def draw_frames(generator: np.random.Generator) -> list[UInt8Array]:
    """Return a textured ground that slides by, with boxes that move over it, as 10 RGB frames."""
    coarse = generator.integers(60, 190, (HEIGHT // 8, WIDTH // 4, 1)).astype(np.float32)
    ground = np.kron(coarse, np.ones((8, 8, 3), np.float32))
    ground += generator.normal(0, 6, ground.shape).astype(np.float32)
    frames = []
    for number in range(FRAMES):
        frame = ground[:, 20 * number : 20 * number + WIDTH].copy()
        for box in range(6):
            left = (70 * box + 35 * number * (1 if box % 2 else -1)) % (WIDTH - 60)
            frame[20 + 35 * box : 55 + 35 * box, left : left + 60] = (40 * box, 255 - 40 * box, 90)
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    return frames


def read_frames(path: str) -> list[UInt8Array]:
    """Return the first 10 frames of a video that are a second or more apart."""
    with av.open(path) as container:
        rate = container.streams.video[0].average_rate
        every = max(1, round(float(rate))) if rate else 1
        decoded = islice(container.decode(video=0), 0, FRAMES * every, every)
        return [np.asarray(frame.reformat(WIDTH, HEIGHT, "rgb24").to_ndarray(), np.uint8) for frame in decoded]


def psnr_db(first: UInt8Array, second: UInt8Array) -> float:
    """Return the peak signal-to-noise ratio in dB."""
    return float(10 * np.log10(255**2 / np.square(first.astype(np.float32) - second.astype(np.float32)).mean()))


def measure(frames: list[UInt8Array], target_bytes: int) -> int:
    """Encode and decode one batch, print what it took, and return its bytes."""
    times_us = TIMES_US[: len(frames)]
    started_s = time.perf_counter()
    encoded = encode_frames(frames, times_us, target_bytes=target_bytes)
    encoded_s = time.perf_counter()
    batch = FrameBatch(
        batch_id=1, video_codec=VIDEO_CODEC, width=WIDTH, height=HEIGHT, capture_times_us=times_us, packets=encoded.packets
    )
    restored = decode_frames(batch, max_pixels=WIDTH * HEIGHT, max_frames=FRAMES)
    decoded_s = time.perf_counter()
    print(
        f"{target_bytes:,} bytes allowed: {encoded.size_bytes:,} used, {psnr_db(restored, np.array(frames)):.1f} dB, "
        f"encode {1000 * (encoded_s - started_s):.0f} ms, decode {1000 * (decoded_s - encoded_s):.0f} ms"
    )
    return encoded.size_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?")
    video = parser.parse_args().video
    frames = read_frames(video) if video else draw_frames(np.random.default_rng(0))
    used_bytes = sum(measure(frames, target_bytes) for target_bytes in TARGETS_BYTES)
    print(f"bytes used / bytes allowed: {used_bytes / sum(TARGETS_BYTES):.3f}")


if __name__ == "__main__":
    main()
