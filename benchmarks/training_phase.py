"""A training phase through Trainer against a bare PyTorch loop: same network, batches, precision and number of steps.

The bare loop has its mini-batches sampled and normalised beforehand, upsamples the logits, takes torch's cross-entropy and
moves every weight with torch.optim.Adam(fused=True). The phase draws its batches from the buffer, chooses its parameters, moves
5 % of them and can undo itself. The last line is the ratio of the median times; the product aims at 1.05 at most.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ams_common.classes import IGNORE
from ams_server.buffer import TrainingBuffer
from ams_server.flat_model import FlatModel
from ams_server.students.export import student_layout
from ams_server.students.registry import STUDENTS
from ams_server.trainer import Trainer, compute_dtype
from ams_server.training_config import TrainingConfig

CLASSES = 19


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    buffer = labelled_frames(arguments.width, arguments.height)
    runs = [bare_loop(arguments, buffer), product_phase(arguments, buffer)]
    bare_s, product_s = map(statistics.median, interleaved(runs, arguments.rounds))
    print(f"{arguments.student} {arguments.width}x{arguments.height}, {arguments.threads} threads, {arguments.device}")
    print(f"bare loop of {arguments.steps} steps  {1e3 * bare_s / arguments.steps:8.1f} ms a step")
    print(f"Trainer.train_phase      {1e3 * product_s / arguments.steps:8.1f} ms a step")
    print(f"ratio {product_s / bare_s:.2f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--student", choices=STUDENTS, default="deeplabv3-mobilenetv2")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def labelled_frames(width: int, height: int) -> TrainingBuffer:
    random = np.random.default_rng(0)
    buffer = TrainingBuffer(240, 241)
    for frame in range(32):
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        labels = np.repeat(np.repeat(random.integers(0, CLASSES, (height // 16, width // 16), np.uint8), 16, 0), 16, 1)
        buffer.add(image, labels, float(frame))
    return buffer


def build(arguments: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    return STUDENTS[arguments.student].build(CLASSES).to(arguments.device).eval()


def bare_loop(arguments: argparse.Namespace, buffer: TrainingBuffer) -> Callable[[], object]:
    module, device = build(arguments), torch.device(arguments.device)
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=True)
    dtype = compute_dtype(arguments.precision, device)
    batches = [normalised(buffer, arguments.batch, device) for _ in range(arguments.steps)]

    def run() -> None:
        for images, labels in batches:
            optimizer.zero_grad()
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                logits = module(images)
            upsampled = F.interpolate(logits.float(), labels.shape[1:], mode="bilinear", align_corners=False)
            loss = F.cross_entropy(upsampled, labels, ignore_index=IGNORE)
            torch.autograd.backward(loss)
            optimizer.step()

    return run


def normalised(buffer: TrainingBuffer, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
    images, labels = buffer.sample(batch, torch.Generator().manual_seed(0))
    return images.to(device).float().sub_(127.5).div_(127.5), labels.to(device).long()


def product_phase(arguments: argparse.Namespace, buffer: TrainingBuffer) -> Callable[[], object]:
    module, spec = build(arguments), STUDENTS[arguments.student]
    config = TrainingConfig(steps=arguments.steps, batch_size=arguments.batch, precision=arguments.precision, loss_stride=1)
    trainer = Trainer(FlatModel(module, student_layout(module), arguments.device), config, mean=spec.mean, std=spec.std)
    return lambda: trainer.train_phase(buffer)


def interleaved(runs: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    for run in runs:
        run()
    times_s: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for run, own in zip(runs, times_s, strict=True):
            finish()
            start = time.perf_counter()
            run()
            finish()
            own.append(time.perf_counter() - start)
    return times_s


def finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
