"""What compression costs in labels: the teacher on received frames against the same teacher on the originals.

Every number is the agreement of two label maps of one frame, brought to the student's size as training does: of the picture as
it was, and of the picture after resizing, encoding and decoding. The server labels what it received, so this is what a student
learns from. Frames are a second or more apart and coded in batches.

    python benchmarks/label_quality.py VIDEO --teacher-weights FILE [--sizes 480x360,208x160] [--kbit 8,16,32,64,128]
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from ams_common.classes import ClassSet, UInt8Array, load_class_set
from ams_common.iou import confusion_matrix, mean_iou
from ams_common.video_codec import encode_frames
from ams_common.video_formats import VIDEO_CODEC, VIDEO_FORMATS
from ams_eval.inputs.label_cache import CachedTeacher, default_cache_folder
from ams_eval.references import resized
from ams_server.teachers.base import Teacher
from ams_server.teachers.config import TeacherConfig
from ams_server.teachers.factory import create_teacher
from helpers.received import received

Size = tuple[int, int]


def main() -> None:
    arguments = parse_arguments()
    if arguments.video is None or arguments.teacher_weights is None:
        print("nothing to measure: give a VIDEO and --teacher-weights")
        return
    torch.set_num_threads(1)
    teacher, classes = teacher_of(arguments), load_class_set(arguments.class_set)
    classes = classes.subset(arguments.classes.split(",")) if arguments.classes else classes
    table = teacher.classes.lookup_into(classes)
    student = size_of(arguments.student)

    def labels(images: UInt8Array) -> list[UInt8Array]:
        found = table[teacher.label(images, [0.0] * len(images))]
        return [resized(np.asarray(each, np.uint8), student) for each in found]

    frames = read_frames(arguments.video, arguments.every_s, arguments.frames)
    originals = labels(frames)
    print("| size | kbit a frame | used | PSNR dB | mIoU of labels, % | pixels that agree, % |")
    print("|---|---|---|---|---|---|")
    for size in map(size_of, arguments.sizes.split(",")):
        small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False) for frame in frames]
        report(size, "original", 0.0, np.stack(small), small, labels(np.stack(small)), originals, classes)
        for kbit in map(float, arguments.kbit.split(",")):
            received, used_bytes, kept = through_the_encoder(small, arguments.batch, kbit, arguments.video_codec)
            names = f"{kbit:g}" if len(kept) == len(small) else f"{kbit:g}, {len(kept)} of {len(small)} frames"
            some = [originals[index] for index in kept]
            report(
                size,
                names,
                used_bytes / len(small),
                received,
                [small[index] for index in kept],
                labels(received),
                some,
                classes,
            )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?")
    parser.add_argument("--teacher", default="efficientvit-b0")
    parser.add_argument("--teacher-weights", type=Path)
    parser.add_argument("--teacher-size", default="960x736")
    parser.add_argument("--class-set", default="camvid11")
    parser.add_argument("--classes", default="sky,building,road,pavement,tree,car,pedestrian")
    parser.add_argument("--student", default="208x160", help="size at which labels are compared")
    parser.add_argument("--sizes", default="480x360,320x240,208x160", help="sizes of the frames that are sent")
    parser.add_argument("--kbit", default="4,8,16,32,64,128,256", help="kbit that a frame may take")
    parser.add_argument("--batch", type=int, default=5, help="frames in a batch")
    parser.add_argument("--video-codec", choices=VIDEO_FORMATS, default=VIDEO_CODEC)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--every-s", type=float, default=1.0, help="seconds between two frames")
    parser.add_argument("--label-cache", type=Path, default=default_cache_folder())
    return parser.parse_args()


def size_of(text: str) -> Size:
    """Return the size that WIDTHxHEIGHT names."""
    width, _, height = text.partition("x")
    return int(width), int(height)


def teacher_of(arguments: argparse.Namespace) -> Teacher:
    """Return the teacher, with a memory."""
    width, height = size_of(arguments.teacher_size)
    config = TeacherConfig(
        teacher=arguments.teacher, teacher_weights=arguments.teacher_weights, teacher_width=width, teacher_height=height
    )
    return CachedTeacher(create_teacher(config, torch.device("cpu"), None), arguments.label_cache)


def read_frames(path: str, every_s: float, count: int) -> UInt8Array:
    """Return up to `count` frames of a video, `every_s` seconds or more apart, as uint8 [n, H, W, 3]."""
    with av.open(path) as container:
        every = max(1, round(float(container.streams.video[0].average_rate or 1) * every_s))
        decoded = islice(container.decode(video=0), 0, count * every, every)
        return np.stack([np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in decoded])


def through_the_encoder(frames: Sequence[UInt8Array], count: int, kbit: float, codec: str) -> tuple[UInt8Array, int, list[int]]:
    """Return what is received of frames that may take `kbit` each, the bytes they took, and which frames they are."""
    parts, used_bytes, kept = [], 0, []
    for start, batch in batches(frames, count):
        encoded = encode_frames(batch, target_bytes=int(125 * kbit * len(batch)), video_codec=codec)
        height, width, _ = batch[0].shape
        parts.append(received(encoded, width, height, codec))
        used_bytes += encoded.size_bytes
        kept += [start + index for index in encoded.kept]
    return np.concatenate(parts), used_bytes, kept


def batches(frames: Sequence[UInt8Array], count: int) -> Iterator[tuple[int, Sequence[UInt8Array]]]:
    """Yield the index of the first frame of each batch, and the batch."""
    for start in range(0, len(frames), count):
        yield start, frames[start : start + count]


def report(
    size: Size,
    name: str,
    bytes_a_frame: float,
    received: UInt8Array,
    sent: Sequence[UInt8Array],
    labels: Sequence[UInt8Array],
    originals: Sequence[UInt8Array],
    classes: ClassSet,
) -> None:
    """Print a row of the table."""
    matrix = sum(confusion_matrix(a, b, len(classes)) for a, b in zip(originals, labels, strict=True))
    error = np.square(received.astype(np.float32) - np.stack(sent)).mean()
    psnr_db = 10 * np.log10(255**2 / error) if error else np.inf
    agree = 100 * np.trace(matrix) / np.sum(matrix)
    print(
        f"| {size[0]}x{size[1]} | {name} | {8e-3 * bytes_a_frame:.1f} | {psnr_db:.1f} | "
        f"{100 * mean_iou(np.asarray(matrix)):.1f} | {agree:.1f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
