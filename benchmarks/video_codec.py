"""Frame batches: how exactly they fill their bytes, how long that takes, and what is left of the pictures.

Cuts batches of 1, 2, 3, 5 and 10 frames, a second apart, out of videos (without any: out of a drawn scene that moves), in
three sizes, and fits each into several numbers of bytes. Prints a row for each size and number of frames, and one for all
batches. Times are of the processor. "Finest" are batches that need less than 95 % of their bytes at the finest quantiser,
which is no miss.

    python benchmarks/video_codec.py [VIDEO ...] [--batches 3] [--video-codec h264]
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import av
import numpy as np

from ams_common.classes import UInt8Array
from ams_common.video_codec import encode_frames
from ams_common.video_fit import FILLED
from ams_common.video_formats import VIDEO_CODEC, VIDEO_FORMATS
from helpers.received import received

SIZES = ((480, 360), (512, 256), (208, 160))
COUNTS = (1, 2, 3, 5, 10)
TARGETS_BYTES = (8_000, 25_000, 62_500, 125_000, 250_000)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One batch."""

    filled: float
    """Bytes used relative to the bytes allowed."""
    left_out: int
    """Frames that did not fit."""
    finest: bool
    """Whether it needed less than it might have had."""
    encode_ms: float
    decode_ms: float
    psnr_db: float


def draw_frames(width: int, height: int, count: int) -> list[UInt8Array]:
    """Return a textured ground that slides by, with boxes that move over it, as RGB frames."""
    generator = np.random.default_rng(0)
    coarse = generator.integers(60, 190, (height // 8 + 1, width // 8 + 3 * count, 1)).astype(np.float32)
    ground = np.kron(coarse, np.ones((8, 8, 3), np.float32))[:height]
    ground += generator.normal(0, 6, ground.shape).astype(np.float32)
    frames = []
    for number in range(count):
        frame = ground[:, 20 * number : 20 * number + width].copy()
        for box in range(6):
            top, left = height * box // 7, (70 * box + 35 * number * (1 if box % 2 else -1)) % (width - 60)
            frame[top : top + 20, left : left + 60] = (40 * box, 255 - 40 * box, 90)
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    return frames


def read_frames(path: str, width: int, height: int, count: int) -> list[UInt8Array]:
    """Return up to `count` frames of a video that are a second or more apart."""
    with av.open(path) as container:
        rate = container.streams.video[0].average_rate
        every = max(1, round(float(rate))) if rate else 1
        decoded = islice(container.decode(video=0), 0, count * every, every)
        return [np.asarray(frame.reformat(width, height, "rgb24").to_ndarray(), np.uint8) for frame in decoded]


def psnr_db(first: UInt8Array, second: UInt8Array) -> float:
    """Return the peak signal-to-noise ratio in dB."""
    return float(10 * np.log10(255**2 / np.square(first.astype(np.float32) - second.astype(np.float32)).mean()))


def measure(frames: Sequence[UInt8Array], target_bytes: int, codec: str) -> Measured:
    """Encode and decode one batch."""
    started_s = time.process_time()
    encoded = encode_frames(frames, target_bytes=target_bytes, video_codec=codec)
    encoded_s = time.process_time()
    height, width, _ = frames[0].shape
    restored = received(encoded, width, height, codec)
    decoded_s = time.process_time()
    filled = encoded.size_bytes / target_bytes
    return Measured(
        filled=filled,
        left_out=len(frames) - len(encoded.kept),
        finest=filled < FILLED
        and encode_frames(frames, target_bytes=4 * target_bytes, video_codec=codec).size_bytes == encoded.size_bytes,
        encode_ms=1e3 * (encoded_s - started_s),
        decode_ms=1e3 * (decoded_s - encoded_s),
        psnr_db=psnr_db(restored, np.array([frames[index] for index in encoded.kept])),
    )


def batches(frames: Sequence[UInt8Array], count: int, most: int) -> Iterator[Sequence[UInt8Array]]:
    """Yield up to `most` batches of `count` frames, spread over `frames`."""
    starts = range(len(frames) - count + 1)
    for start in starts[:: max(1, -(-len(starts) // most))]:
        yield frames[start : start + count]


def describe(name: str, batches: Sequence[Measured]) -> str:
    """Return a row of a table."""
    spending = [each for each in batches if not each.finest]
    within = sum(FILLED <= each.filled <= 1 for each in spending)
    least = min((each.filled for each in spending), default=float("nan"))
    share = 100 * within / len(spending) if spending else float("nan")
    return (
        f"| {name} | {len(batches)} | {len(batches) - len(spending)} | {share:.1f} | {least:.3f} | "
        f"{max(each.filled for each in batches):.4f} | {sum(each.left_out > 0 for each in batches)} | "
        f"{np.mean([each.encode_ms for each in batches]):.0f} | {np.mean([each.decode_ms for each in batches]):.0f} | "
        f"{np.mean([each.psnr_db for each in batches]):.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*")
    parser.add_argument("--batches", type=int, default=3, help="batches of each kind from each video")
    parser.add_argument("--video-codec", choices=VIDEO_FORMATS, default=VIDEO_CODEC)
    arguments = parser.parse_args()
    print(
        "| frames | batches | finest | within 5 %, % | least | most | with frames left out | encode ms | decode ms | PSNR dB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    everything: list[Measured] = []
    for width, height in SIZES:
        many = max(COUNTS) * arguments.batches
        films = [read_frames(path, width, height, many) for path in arguments.videos] or [draw_frames(width, height, many)]
        for count in COUNTS:
            chosen = [batch for film in films for batch in batches(film, count, arguments.batches)]
            measured = [
                measure(batch, target_bytes, arguments.video_codec) for batch in chosen for target_bytes in TARGETS_BYTES
            ]
            print(describe(f"{count} of {width}x{height}", measured), flush=True)
            everything += measured
    print(describe("all", everything))


if __name__ == "__main__":
    main()
