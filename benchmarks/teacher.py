"""Throughput of labelling: Teacher.label, from frames to labels at their size, against the bare model's forward and argmax.

The bare model gets images that are already scaled and normalised and gives labels at stride 8; it runs on the whole batch and
frame by frame, and the faster of the two counts. The last line is the ratio of the throughputs; above 1 the product is faster.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch import Tensor

from ams_common.classes import CITYSCAPES19, UInt8Array
from ams_server.networks.efficientvit import VARIANTS, efficientvit_seg, load_efficientvit
from ams_server.teachers.config import TeacherConfig
from ams_server.teachers.factory import create_teacher
from ams_server.teachers.network import IMAGENET_MEAN, IMAGENET_STD, InputSize, network_input

BARE_BATCH, BARE_FRAMES, PRODUCT = "bare model, batch", "bare model, frame by frame", "Teacher.label"


def main() -> None:
    arguments = parse_arguments()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        weights = arguments.weights or random_weights(arguments.variant, Path(folder))
        runs = competitors(arguments, weights)
    seconds = interleaved(runs, arguments.rounds)
    report(seconds, arguments.frames)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variant", choices=VARIANTS, default="b0")
    parser.add_argument("--weights", type=Path, help="safetensors file; random weights without")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast, for both")
    parser.add_argument("--frames", type=int, default=4, help="frames in a batch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def random_weights(variant: str, folder: Path) -> Path:
    path = folder / "weights.safetensors"
    save_file(efficientvit_seg(variant, len(CITYSCAPES19)).state_dict(), path)
    return path


def competitors(arguments: argparse.Namespace, weights: Path) -> dict[str, Callable[[], object]]:
    device, autocast = torch.device(arguments.device), torch.bfloat16 if arguments.bf16 else None
    config = TeacherConfig(teacher=f"efficientvit-{arguments.variant}", teacher_weights=weights)
    teacher = create_teacher(config, device, autocast)
    network = efficientvit_seg(arguments.variant, len(CITYSCAPES19)).to(device).eval()
    load_efficientvit(network, weights)
    images = np.random.default_rng(0).integers(0, 256, (arguments.frames, 360, 480, 3), np.uint8)
    size = InputSize(width=config.teacher_width, height=config.teacher_height).of_frame(360, 480)
    pixels = network_input(images, size, IMAGENET_MEAN, IMAGENET_STD, device).contiguous()

    @torch.inference_mode()
    def bare(frames: int) -> list[Tensor]:
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            return [network(part).argmax(dim=1).to(torch.uint8).cpu() for part in torch.split(pixels, frames)]

    def product() -> UInt8Array:
        return teacher.label(images, [0.0] * arguments.frames)

    return {BARE_BATCH: lambda: bare(len(pixels)), BARE_FRAMES: lambda: bare(1), PRODUCT: product}


def interleaved(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    for run in runs.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def report(seconds: dict[str, list[float]], frames: int) -> None:
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    table = Table("", "ms a frame, median", "least", "most", "frames/s")
    for name, each in seconds.items():
        values = (1e3 * medians[name] / frames, 1e3 * min(each) / frames, 1e3 * max(each) / frames, frames / medians[name])
        table.add_row(name, *(f"{value:.1f}" for value in values))
    Console().print(table)
    print(f"ratio {min(medians[BARE_BATCH], medians[BARE_FRAMES]) / medians[PRODUCT]:.2f}")


if __name__ == "__main__":
    main()
