"""Training phases of one device's student on its labelled frames (lines 10 to 16 of the paper's Algorithm 1).

B: mini-batch. C: classes. H, W: input size of the student. h, w: size of its logits. N: trainable parameters. P: elements of
the flat vector, running statistics included.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ams_common.errors import ModelError
from ams_common.layout import Float32Array
from ams_server.buffer import TrainingBuffer
from ams_server.class_balance import class_weights
from ams_server.coordinates import (
    Int64Array,
    biases_and_last_coordinates,
    coordinate_count,
    first_and_last_coordinates,
    first_coordinates,
    largest_coordinates,
    last_coordinates,
    uniform_coordinates,
)
from ams_server.flat_model import FlatModel
from ams_server.learning_rate import phase_learning_rate
from ams_server.optimizer import MOST_STEPS, Optimizer, SgdMomentum, SparseAdam
from ams_server.segmentation_loss import segmentation_loss
from ams_server.state import State, integer
from ams_server.training_config import Precision, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class PhaseResult:
    """What one training phase did."""

    indices: Int64Array
    """Positions of the flat vector that may differ from before the phase, int64, ascending; empty after a failure."""
    loss: float
    """Mean training loss over the steps; NaN after a failure."""
    steps: int
    """Optimiser steps taken."""
    failure: str = ""
    """Why the phase was undone; empty for a phase that worked."""


class _Before(NamedTuple):
    """What a phase changes, as it was before."""

    weights: Tensor
    optimizer: State
    phases: int
    moved: Int64Array


class Trainer:
    """Trains a FlatModel in phases; the caller sends what changed and hands back, through `adopt`, what the edge decoded."""

    def __init__(self, model: FlatModel, config: TrainingConfig, *, mean: Sequence[float], std: Sequence[float]) -> None:
        """Prepare to train `model` from its present weights, the pretrained ones.

        `mean` and `std` are those of the three channels of RGB images in 0..255. All random numbers come from `config.seed`,
        on the CPU, so that the same seed gives the same batches on every device.

        Raises:
            ConfigurationError: the device cannot compute in the wanted precision.
        """
        self.model = model
        self._config = config
        self._mean = torch.tensor(mean, device=model.device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, device=model.device).view(1, 3, 1, 1)
        self._compute_dtype = compute_dtype(config.precision, model.device)
        self._optimizer = make_optimizer(model, config)
        self._generator = torch.Generator().manual_seed(config.seed)
        self._pretrained = model.weights.clone() if config.restore_between_phases else None
        self._batch_norms = [module for module in model.module.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        self._biases_and_last = biases_and_last_coordinates(model.layout)
        self._phases = 0
        self._moved: Int64Array = np.empty(0, np.int64)
        self._before: _Before | None = None

    def train_phase(
        self, buffer: TrainingBuffer, limit: int | None = None, stopping: Callable[[], bool] = lambda: False
    ) -> PhaseResult:
        """Train for the configured number of steps on mini-batches of `buffer`, which must not be empty; see `run_phase`."""
        return self.run_phase(self._buffer_losses(buffer), limit, stopping)

    def run_phase(
        self, losses: Iterator[Tensor], limit: int | None = None, stopping: Callable[[], bool] = lambda: False
    ) -> PhaseResult:
        """Take a step for each of `losses`, of which there is at least one.

        A loss is a float32 scalar with its graph, made of `logits` when it is asked for, at the weights of that moment.

        `limit` is the largest number of trainable parameters that may change, where that is less than the configured
        fraction; at least one does, and "full" then chooses as gradient_guided. A loss or weight that is not finite undoes the
        phase, moments included; so does `stopping`, which is asked before each step, so that a server ends promptly.
        """
        self._before = _Before(self.model.weights.clone(), self._optimizer.state(), self._phases, self._moved)
        self._restore()
        count = self._count(limit)
        self._optimizer.learning_rate = phase_learning_rate(self._config, phases=self._phases, part=count / self._count(None))
        chosen, taken, stopped = self._run(losses, count, stopping)
        loss = float(torch.stack(taken).mean()) if taken else math.nan
        failure = "it was stopped" if stopped else self._failure(loss)
        if failure:
            self.undo()
            return PhaseResult(indices=np.empty(0, np.int64), loss=math.nan, steps=len(taken), failure=failure)
        return PhaseResult(indices=self._changed(chosen), loss=loss, steps=len(taken))

    def logits(self, images: Tensor) -> Tensor:
        """Return what the student makes of `images`, uint8 RGB [B, 3, H, W] on any device: logits [B, C, h, w] with a graph."""
        inputs = images.to(self.model.device).float().sub_(self._mean).div_(self._std)
        with torch.autocast(self.model.device.type, self._compute_dtype, enabled=self._compute_dtype != torch.float32):
            logits: Tensor = self.model.module(inputs)
        return logits

    def undo(self) -> None:
        """Take back the last phase, moments included; has no effect after its result was adopted."""
        if self._before is None:
            return
        weights, optimizer_state, self._phases, self._moved = self._before
        self._before = None
        self.model.weights.copy_(weights)
        self._optimizer.load_state(optimizer_state)

    def vector(self) -> Float32Array:
        """Return a copy of the present weights, float32 [P]."""
        return self.model.vector()

    @property
    def usual_change(self) -> float:
        """By how much the last phase of Adam moved a weight whose gradients keep no direction; 0 for other optimisers."""
        return self._optimizer.learning_rate * math.sqrt(self._config.steps) if self._config.optimizer == "adam" else 0.0

    def squared_gradients(self) -> Float32Array:
        """Return the mean over each trainable tensor of about its squared gradients, float32 [tensors], up to one factor."""
        sizes = [tensor.size for tensor in self.model.layout.tensors if tensor.trainable]
        means = [part.mean() for part in torch.split(self._optimizer.squared_gradients(), sizes)]
        array: Float32Array = torch.stack(means).cpu().numpy()
        return array

    def adopt(self, vector: Float32Array) -> None:
        """Go on from `vector`, float32 [P]: exactly what the edge decoded.

        Raises:
            ModelError: `vector` has another length or holds a number that is not finite.
        """
        self.model.load(vector)
        self._before = None
        if self._pretrained is not None:
            # All of them, for an update under a budget leaves out some of what was to be restored.
            self._moved = torch.nonzero(self.model.weights != self._pretrained).flatten().cpu().numpy()

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return copies of all that a later trainer needs, beside the weights, to go on identically."""
        return {
            **self._optimizer.state(),
            "phases": np.array(self._phases, np.int64),
            "moved": self._moved.copy(),
            "generator": self._generator.get_state().numpy(),
        }

    def load_state(self, state: State) -> None:
        """Go on from the `state` of a trainer with the same model and configuration; the weights come through `adopt`.

        Raises:
            ModelError: a part is missing or does not fit.
        """
        phases = integer(state, "phases", MOST_STEPS)
        moved, generator = state.get("moved"), state.get("generator")
        if moved is None or moved.ndim != 1 or generator is None:
            raise ModelError("trainer state lacks the moved positions or the random generator")
        if moved.size and not (moved.dtype == np.int64 and 0 <= moved.min() <= moved.max() < self.model.layout.size):
            raise ModelError(f"trainer state moves positions outside of {self.model.layout.size} elements")
        self._optimizer.load_state(state)
        try:
            self._generator.set_state(torch.tensor(generator))
        except (RuntimeError, TypeError) as error:
            raise ModelError("trainer state holds no state of a random generator") from error
        self._phases, self._moved = phases, moved.astype(np.int64)

    def _count(self, limit: int | None) -> int:
        size = self.model.layout.trainable_size
        whole = {"full": size, "biases_and_last": len(self._biases_and_last)}
        count = whole.get(self._config.selection, coordinate_count(size, self._config.fraction))
        if limit is not None and self._pretrained is not None:
            limit //= 2  # what the last phase moved is sent too, since it is taken back
        return count if limit is None else min(count, max(1, limit))

    def _restore(self) -> None:
        """Take back what the last phase moved, if phases start from the pretrained weights; all else is as it was."""
        if self._pretrained is not None:
            moved = torch.from_numpy(self._moved).to(self.model.device)
            self.model.weights.scatter_(0, moved, self._pretrained.gather(0, moved))

    def _run(self, losses: Iterator[Tensor], count: int, stopping: Callable[[], bool]) -> tuple[Int64Array, list[Tensor], bool]:
        """Return the chosen coordinates, the losses of the steps taken, and whether it was stopped."""
        chosen = None if self._first_step_decides else self._choose(count)
        positions = self._on_device(chosen)
        taken: list[Tensor] = []
        stopped = False
        self._train_batch_norm(self._config.batch_norm == "train")
        for loss in losses:
            stopped = stopping()
            if stopped:
                break
            taken.append(self._backward(loss))
            self._optimizer.accumulate()
            if chosen is None:
                chosen = self._choose(count)
                positions = self._on_device(chosen)
            self._optimizer.apply(positions)
        self._train_batch_norm(False)
        return np.empty(0, np.int64) if chosen is None else chosen, taken, stopped

    def _buffer_losses(self, buffer: TrainingBuffer) -> Iterator[Tensor]:
        balance = self._config.class_balance
        weights = class_weights(buffer.class_pixels, balance).to(self.model.device) if balance else None
        for _ in range(self._config.steps):
            images, labels = buffer.sample(self._config.batch_size, self._generator)
            targets, stride = labels.to(self.model.device), self._config.loss_stride
            yield segmentation_loss(self.logits(images), targets, stride, class_weights=weights)

    def _backward(self, loss: Tensor) -> Tensor:
        self.model.gradients.zero_()
        torch.autograd.backward(loss)
        return loss.detach()

    @property
    def _first_step_decides(self) -> bool:
        selection = self._config.selection
        first_phase = self._phases == 0 and self._config.first_selection == "first_step"
        return selection == "gauss_southwell" or (selection == "gradient_guided" and first_phase)

    def _choose(self, count: int) -> Int64Array:
        size = self.model.layout.trainable_size
        match self._config.selection:
            case "full" if count == size:
                return first_coordinates(size, size)
            case "first_layers":
                return first_coordinates(size, count)
            case "last_layers":
                return last_coordinates(size, count)
            case "first_and_last":
                return first_and_last_coordinates(size, count)
            case "biases_and_last":
                updates = self._optimizer.update().abs_()[torch.from_numpy(self._biases_and_last)]
                return self._biases_and_last[largest_coordinates(updates, count, self._generator)]
            case "gauss_southwell":
                return largest_coordinates(self.model.gradients.abs(), count, self._generator)
            case "gradient_guided" | "full" if self._phases > 0 or self._first_step_decides:
                return largest_coordinates(self._optimizer.update().abs_(), count, self._generator)
            case "random" | "gradient_guided" | "full":
                return uniform_coordinates(size, count, self._generator)

    def _on_device(self, chosen: Int64Array | None) -> Tensor | None:
        if chosen is None or len(chosen) == self.model.layout.trainable_size:
            return None
        return torch.from_numpy(chosen).to(self.model.device)

    def _train_batch_norm(self, training: bool) -> None:
        for batch_norm in self._batch_norms:
            batch_norm.train(training)

    def _failure(self, loss: float) -> str:
        if not math.isfinite(loss):
            return f"the training loss became {loss}"
        # One infinite or NaN number makes the sum so, and a sum takes a quarter of the time of looking at each.
        if not math.isfinite(self.model.weights.sum() + self._optimizer.update().sum()):
            return "a weight or an update became infinite or NaN"
        return ""

    def _changed(self, chosen: Int64Array) -> Int64Array:
        layout, changed = self.model.layout, chosen
        if self._config.batch_norm == "train":
            changed = np.concatenate([changed, np.arange(layout.trainable_size, layout.size)])
        moved_last, self._moved = self._moved, changed
        self._phases += 1
        return changed if self._pretrained is None else np.union1d(changed, moved_last)


def make_optimizer(model: FlatModel, config: TrainingConfig) -> Optimizer:
    """Return the configured optimiser on the trainable part of `model`."""
    weights, gradients = model.trainable_weights, model.gradients
    if config.optimizer == "sgd":
        return SgdMomentum(weights, gradients, learning_rate=config.learning_rate)
    return SparseAdam(weights, gradients, learning_rate=config.learning_rate, epsilon_inside_root=config.epsilon_inside_root)


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type that forward and backward passes compute in: torch.float32 or torch.bfloat16.

    "auto" takes bfloat16 where it was measured faster: on GPUs with hardware for it, and on CPUs with instructions for it
    (a step of JITNet takes 0.6 of the time with AVX-512 BF16 and 0.3 with AMX, of DeepLab 0.85). Other CPUs emulate it.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
