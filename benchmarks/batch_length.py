"""What it costs to send ten frames as several batches: PSNR at equal bytes, and bytes at equal quality.

Takes ten frames, a second apart (or as many as --hz says), from several places of each video and fits them, split into 1, 2, 3,
5 and 10 batches, into equal numbers of bytes. A batch begins with a whole picture, so a shorter one predicts less. The bytes
that a split costs are what it takes more than a single batch for the PSNR of that, interpolated between the sizes measured.

    python benchmarks/batch_length.py VIDEO [VIDEO ...] [--width 480 --height 360] [--hz 1] [--places 4]
"""

import argparse
from collections.abc import Sequence
from itertools import islice

import av
import numpy as np

from ams_common.classes import UInt8Array
from ams_common.video_codec import encode_frames
from ams_common.video_formats import VIDEO_CODEC
from helpers.received import received

FRAMES = 10
SPLITS = (1, 2, 3, 5, 10)
TOTALS_BYTES = (90_000, 125_000, 180_000, 250_000)
"""From what ten frames of CamVid need to be sent at all."""


def read_frames(path: str, width: int, height: int, sampling_hz: float) -> list[UInt8Array]:
    """Return the frames of a video at a rate."""
    with av.open(path) as container:
        rate = container.streams.video[0].average_rate
        every = max(1, round(float(rate) / sampling_hz)) if rate else 1
        decoded = islice(container.decode(video=0), 0, None, every)
        return [np.asarray(frame.reformat(width, height, "rgb24").to_ndarray(), np.uint8) for frame in decoded]


def squared_error(frames: Sequence[UInt8Array], target_bytes: int) -> tuple[float, int]:
    """Return the mean squared error of a batch of at most `target_bytes`, and its bytes."""
    encoded = encode_frames(frames, target_bytes=target_bytes)
    height, width, _ = frames[0].shape
    restored = received(encoded, width, height, VIDEO_CODEC)
    kept = np.array([frames[index] for index in encoded.kept], np.float32)
    return float(np.square(restored - kept).mean()), encoded.size_bytes


def measure(frames: Sequence[UInt8Array], split: int, total_bytes: int) -> tuple[float, int]:
    """Return the PSNR in dB of all frames and their bytes when they are sent as `split` batches of `total_bytes` together."""
    parts = np.array_split(np.arange(len(frames)), split)
    found = [squared_error([frames[index] for index in part], total_bytes * len(part) // len(frames)) for part in parts]
    error = sum(each[0] * len(part) for each, part in zip(found, parts, strict=True)) / len(frames)
    return float(10 * np.log10(255**2 / error)), sum(each[1] for each in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+")
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--hz", type=float, default=1.0)
    parser.add_argument("--places", type=int, default=4)
    arguments = parser.parse_args()
    print("| video | batches | " + " | ".join(f"dB at {total / 1000:g} kB" for total in TOTALS_BYTES) + " | bytes more, % |")
    print("|---|---|" + "---|" * (len(TOTALS_BYTES) + 1))
    for path in arguments.videos:
        frames = read_frames(path, arguments.width, arguments.height, arguments.hz)
        starts = np.linspace(0, len(frames) - FRAMES, arguments.places).astype(int)
        curves = {
            split: np.array(
                [np.mean([measure(frames[at : at + FRAMES], split, total) for at in starts], 0) for total in TOTALS_BYTES]
            )
            for split in SPLITS
        }
        for split, curve in curves.items():
            print(f"| {path.rpartition('/')[2]} | {split} | {_row(curve, curves[1])} |", flush=True)


def _row(curve: np.ndarray, single: np.ndarray) -> str:
    """Return the cells of a split with the points (PSNR, bytes) of `curve`, beside those of a single batch."""
    wanted_db = single[:, 0][(single[:, 0] >= curve[0, 0]) & (single[:, 0] <= curve[-1, 0])]
    needed, usual = (np.interp(wanted_db, each[:, 0], np.log(each[:, 1])) for each in (curve, single))
    more = 100 * (np.exp(np.mean(needed - usual)) - 1) if wanted_db.size else float("nan")
    return " | ".join(f"{each:.2f}" for each in curve[:, 0]) + f" | {more:+.0f}"


if __name__ == "__main__":
    main()
