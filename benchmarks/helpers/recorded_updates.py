"""Updates of real training phases in a folder: a file for each, and the layout of their vectors."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ams_common.layout import Float32Array, ParameterLayout, TensorSpec
from ams_common.sparse_update import EncodingPlan, Int64Array

_LAYOUT = "layout.json"


@dataclass(frozen=True, eq=False)
class RecordedUpdate:
    """What an update codec is given, without the weights that do not change."""

    indices: Int64Array
    """int64 [k], increasing."""
    base: Float32Array
    """float32 [k]: weights before the phase."""
    target: Float32Array
    """float32 [k]: weights after it."""
    plan: EncodingPlan


def save_update(folder: Path, layout: ParameterLayout, update: RecordedUpdate) -> None:
    """Add `update` to `folder`, which is made where it is missing and holds updates of one layout."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = [(tensor.name, tensor.shape, tensor.trainable) for tensor in layout.tensors]
    (folder / _LAYOUT).write_text(json.dumps(tensors), encoding="utf-8")
    number = len(list(folder.glob("*.npz")))
    np.savez_compressed(
        folder / f"{number:04}.npz",
        indices=update.indices,
        base=update.base,
        target=update.target,
        step=update.plan.step,
        step_scales=update.plan.step_scales if update.plan.step_scales is not None else np.ones(len(tensors), np.float32),
    )


def recorded_layout(folder: Path) -> ParameterLayout:
    """Return the layout of the updates in `folder`."""
    tensors = json.loads((folder / _LAYOUT).read_text(encoding="utf-8"))
    return ParameterLayout(tuple(TensorSpec(name=name, shape=tuple(shape), trainable=flag) for name, shape, flag in tensors))


def recorded_updates(folder: Path) -> Iterator[RecordedUpdate]:
    """Yield the updates in `folder` in the order of their phases; they have no limit of bytes."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as file:
            plan = EncodingPlan(step=float(file["step"]), step_scales=file["step_scales"])
            yield RecordedUpdate(file["indices"], file["base"], file["target"], plan)
