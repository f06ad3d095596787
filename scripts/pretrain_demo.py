"""Make the demo's two networks: a teacher that knows streets of every kind, a student that knows a few by day.

Both learn from procedural streets whose seeds the demo's stream does not use. The teacher's are drawn from wide ranges of
style and light; the student's are plain daytime views of similar districts, so it is decent there and lost elsewhere.

    python scripts/pretrain_demo.py [--cache FOLDER] [--only teacher|student]

takes about an hour on two CPU cores and writes evaluation/ams_eval/demo_models/*.safetensors.
"""

import argparse
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.memory_format import convert_conv2d_weight_memory_format

from ams_common.classes import IGNORE, STREET7, UInt8Array
from ams_eval.world.stream import DEMO_STREAM, StreetConfig, render_stream
from ams_eval.world.styles import daylight, familiar_style, random_light, random_style
from ams_eval.world.views import ViewRanges, render_views
from ams_server.students.registry import STUDENTS, StudentSpec

_LOG = logging.getLogger("pretrain_demo")
_MODELS = Path(__file__).parents[1] / "evaluation" / "ams_eval" / "demo_models"
_FAVOUR_SMALL = (1.0, 1.5, 1.0, 1.0, 1.0, 4.0, 1.5)
_NEARLY_EVEN = (1.0, 1.2, 1.0, 1.0, 1.0, 1.6, 1.0)
_EVEN = (1.0,) * len(STREET7)
_WARM_UP_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of the training with its own pictures and its own schedule."""

    crop: tuple[int, int]
    """Height and width of training pictures."""
    shares: tuple[float, float]
    """Range of the share of a view's height and width that a training picture shows."""
    steps: int
    learning_rate: float = 3e-3
    class_weights: tuple[float, ...] = _FAVOUR_SMALL
    """Weight of each class in the loss."""


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """How one network is made."""

    file_name: str
    network: str
    """Name among the students; the teacher is one of them, too."""
    ranges: ViewRanges
    first_seed: int
    worlds: int
    views_per_world: int
    size: tuple[int, int]
    """Height and width of the input in use."""
    jitter: float = 0.0
    """Largest change of a picture's brightness, and half as much of each colour, as a share of 1."""
    stages: tuple[Stage, ...]
    batch: int = 8
    weight_decay: float = 1e-4
    held_out_seed: int = 900_000


TEACHER = Pretraining(
    file_name="street_teacher.safetensors",
    network="efficientvit-b0",
    ranges=ViewRanges(style=random_style, light=random_light, width=512, height=288),
    first_seed=100_000,
    worlds=300,
    views_per_world=10,
    size=(288, 512),
    stages=(
        Stage(crop=(192, 320), shares=(0.5, 0.9), steps=2400),
        Stage(crop=(224, 384), shares=(0.6, 0.85), steps=1200, learning_rate=1.5e-3, class_weights=_NEARLY_EVEN),
        Stage(crop=(224, 384), shares=(0.65, 0.85), steps=1400, learning_rate=1.2e-3, class_weights=_EVEN),
    ),
)
STUDENT = Pretraining(
    file_name="street_student.safetensors",
    network="jitnet-quarter",
    ranges=ViewRanges(style=familiar_style, light=daylight, width=320, height=180, focal=(0.75, 0.95)),
    first_seed=200_000,
    worlds=24,
    views_per_world=40,
    size=(128, 256),
    jitter=0.3,
    stages=(Stage(crop=(128, 256), shares=(0.8, 1.0), steps=2400),),
)


def main() -> None:
    """Render, train, score and save."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=None, help="keep rendered views here")
    parser.add_argument("--only", choices=("teacher", "student"), default=None, help="make one of the two")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    for name, each in (("teacher", TEACHER), ("student", STUDENT)):
        if arguments.only in (None, name):
            _make(each, arguments.cache)


def _make(each: Pretraining, cache: Path | None) -> None:
    spec = STUDENTS[each.network]
    network = convert_conv2d_weight_memory_format(spec.build(len(STREET7)), torch.channels_last)
    images, labels = _views(each, cache)
    for stage in each.stages:
        train(network, spec, each, stage, images, labels)
    _save(network, each)
    held_out = render_set(replace(each, first_seed=each.held_out_seed, worlds=12, views_per_world=10))
    _LOG.info("held-out worlds: %s", score(network, spec, each.size, zip(*held_out, strict=True)))
    for name, frames in phases(DEMO_STREAM):
        _LOG.info("%s: %s", name, score(network, spec, each.size, frames))


def render_set(each: Pretraining) -> tuple[UInt8Array, UInt8Array]:
    """Return views of the worlds from `first_seed` on: uint8 [N, H, W, 3] RGB and labels, uint8 [N, H, W]."""
    shape = (each.worlds * each.views_per_world, each.ranges.height, each.ranges.width)
    images, labels = np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8)
    for world in range(each.worlds):
        for i, view in enumerate(render_views(each.first_seed + world, each.views_per_world, each.ranges)):
            images[world * each.views_per_world + i], labels[world * each.views_per_world + i] = view
        if world % 20 == 0:
            _LOG.info("rendered %d of %d worlds", world, each.worlds)
    return images, labels


def phases(config: StreetConfig, every: int = 5) -> Iterator[tuple[str, list[tuple[UInt8Array, UInt8Array]]]]:
    """Yield the name and every `every`-th frame of each phase of a stream."""
    frames: dict[str, list[tuple[UInt8Array, UInt8Array]]] = {phase.name: [] for phase in config.phases}
    for i, frame in enumerate(render_stream(config)):
        if i % every == 0:
            frames[config.phase_at(i / config.fps).name].append(frame)
    yield from frames.items()


def score(
    network: nn.Module,
    spec: StudentSpec,
    size: tuple[int, int],
    views: Iterator[tuple[UInt8Array, UInt8Array]] | list[tuple[UInt8Array, UInt8Array]],
) -> str:
    """Return mIoU and IoU of each class in per cent, over the summed confusion of all views at their own size."""
    network.eval()
    confusion = np.zeros((len(STREET7), len(STREET7)))
    for image, labels in views:
        predicted = predict(network, spec, size, image)
        known = labels != IGNORE
        confusion += np.bincount(labels[known] * len(STREET7) + predicted[known].astype(np.int64), minlength=49).reshape(7, 7)
    correct = np.diag(confusion)
    iou = 100 * correct / np.maximum(confusion.sum(0) + confusion.sum(1) - correct, 1)
    return f"mIoU {iou.mean():.1f} (" + ", ".join(f"{n} {v:.0f}" for n, v in zip(STREET7.names, iou, strict=True)) + ")"


@torch.inference_mode()
def predict(network: nn.Module, spec: StudentSpec, size: tuple[int, int], image: UInt8Array) -> UInt8Array:
    """Return the labels of one picture, uint8 [H, W]."""
    small = np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA))
    logits = network(_normalised(torch.from_numpy(small)[None], spec))
    enlarged = F.interpolate(logits, image.shape[:2], mode="bilinear", align_corners=False)
    return enlarged.argmax(1)[0].to(torch.uint8).numpy()


def _views(each: Pretraining, cache: Path | None) -> tuple[UInt8Array, UInt8Array]:
    if cache is None:
        return render_set(each)
    paths = cache / f"{each.file_name}.images.npy", cache / f"{each.file_name}.labels.npy"
    if not paths[1].exists():
        cache.mkdir(parents=True, exist_ok=True)
        for path, array in zip(paths, render_set(each), strict=True):
            np.save(path, array)
    return np.load(paths[0]), np.load(paths[1])


def train(
    network: nn.Module, spec: StudentSpec, each: Pretraining, stage: Stage, images: UInt8Array, labels: UInt8Array
) -> None:
    """Train all parameters on random pieces of the views."""
    rng = np.random.default_rng((each.first_seed, stage.steps))
    optimizer = torch.optim.AdamW(network.parameters(), lr=stage.learning_rate, weight_decay=each.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _one_cycle(stage.steps))
    weights = torch.tensor(stage.class_weights)
    network.train()
    mean_loss = 0.0
    for step in range(stage.steps):
        pixels, targets = _batch(rng, each, stage, images, labels)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(_normalised(pixels, spec))
        enlarged = F.interpolate(logits.float(), targets.shape[1:], mode="bilinear", align_corners=False)
        loss = F.cross_entropy(enlarged, targets, weights, ignore_index=IGNORE)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        mean_loss += 0.02 * (float(loss.detach()) - mean_loss)
        if step % 100 == 99:
            _LOG.info("%s: step %d of %d, loss %.3f", each.network, step + 1, stage.steps, mean_loss)


def _one_cycle(steps: int) -> Callable[[int], float]:
    def factor(step: int) -> float:
        share = (step + 1) / steps
        return min(share / _WARM_UP_SHARE, 0.5 + 0.5 * float(np.cos(np.pi * share))) + 1e-3

    return factor


def _batch(
    rng: np.random.Generator, each: Pretraining, stage: Stage, images: UInt8Array, labels: UInt8Array
) -> tuple[Tensor, Tensor]:
    """Return uint8 [N, h, w, 3] and labels at half the resolution, int64 [N, h / 2, w / 2]."""
    chosen = [_cropped(rng, stage, images[i], labels[i]) for i in rng.integers(len(images), size=each.batch)]
    pixels = torch.from_numpy(np.stack([_jittered(rng, image, each.jitter) for image, _ in chosen]))
    targets = torch.from_numpy(np.stack([label for _, label in chosen])[:, 1::2, 1::2].astype(np.int64))
    return pixels, targets


def _cropped(rng: np.random.Generator, stage: Stage, image: UInt8Array, labels: UInt8Array) -> tuple[UInt8Array, UInt8Array]:
    """Cut out a piece at a random place, mirror it half of the time; the aspect changes a little."""
    height, width = stage.crop
    share = rng.uniform(*stage.shares)
    rows, columns = (round(side * min(1.0, share * rng.uniform(0.95, 1.05))) for side in image.shape[:2])
    top, left = int(rng.integers(image.shape[0] - rows + 1)), int(rng.integers(image.shape[1] - columns + 1))
    part = np.s_[top : top + rows, left : left + columns]
    small = cv2.resize(image[part], (width, height), interpolation=cv2.INTER_AREA)
    label = cv2.resize(labels[part], (width, height), interpolation=cv2.INTER_NEAREST)
    step = int(rng.choice((-1, 1)))
    return np.asarray(small[:, ::step], np.uint8), np.asarray(label[:, ::step], np.uint8)


def _jittered(rng: np.random.Generator, image: UInt8Array, jitter: float) -> UInt8Array:
    gains = (1 + rng.uniform(-jitter, jitter)) * (1 + 0.5 * rng.uniform(-jitter, jitter, 3))
    return np.asarray(np.clip(image * gains.astype(np.float32), 0, 255), np.uint8)


def _normalised(pixels: Tensor, spec: StudentSpec) -> Tensor:
    scaled = (pixels.float() - torch.tensor(spec.mean)) / torch.tensor(spec.std)
    return scaled.permute(0, 3, 1, 2)


def _save(network: nn.Module, each: Pretraining) -> None:
    """Kernels in half precision, all else as it is; `metadata` says what the file is for."""
    tensors = {n: t.half().contiguous() if t.ndim == 4 else t.contiguous() for n, t in network.state_dict().items()}
    height, width = each.size
    about = {"network": each.network, "class_set": STREET7.name, "width": str(width), "height": str(height)}
    _MODELS.mkdir(exist_ok=True)
    save_file(tensors, _MODELS / each.file_name, metadata=about)
    _LOG.info("wrote %s, %d bytes", each.file_name, (_MODELS / each.file_name).stat().st_size)


if __name__ == "__main__":
    main()
