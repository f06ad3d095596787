"""Update codecs: throughput and size for a student of 2.1 million parameters of which 5 % may change.

The change is drawn from a seed and shaped like those of gradient-guided training: tensors differ widely in how many of their
parameters change, and so do the rows of a tensor; changes are a few learning rates large. Prints one line for each codec, for
delta-rans at several steps, with the unstructured entropy of what it sends: which parameters of each tensor change and by how
many steps, as if every parameter were drawn alone. Then the size of each codec relative to the reference format.

    python benchmarks/update_codec.py
"""

import time
from collections.abc import Callable

import numpy as np

from ams_common.layout import Float32Array, ParameterLayout, TensorSpec
from ams_common.sparse_update import NO_PLAN, EncodingPlan, Int64Array, SparseUpdate, UpdateCodec
from ams_common.update_codec import create_codec

TENSORS, ROWS, ROW_SIZE = 64, 192, 172
FRACTION = 0.05
SPREAD = 4e-3
STEPS = (4e-3, 8e-3, 12e-3)
REPETITIONS = 5


def draw_change(generator: np.random.Generator) -> tuple[Float32Array, Float32Array, Int64Array]:
    """Return base and target, float32 [P], and the positions that may change, int64 [k]."""
    base = generator.normal(0, 0.05, TENSORS * ROWS * ROW_SIZE).astype(np.float32)
    density = np.repeat(generator.lognormal(0, 0.7, TENSORS), ROWS) * generator.gamma(0.5, 2, TENSORS * ROWS)
    density *= FRACTION / density.mean()
    indices = np.flatnonzero(generator.random(base.size) < np.repeat(density, ROW_SIZE))
    target = base.copy()
    target[indices] += generator.normal(0, SPREAD, indices.size).astype(np.float32)
    return base, target, indices


def fastest_ms(action: Callable[[], object]) -> float:
    """Return the milliseconds of processor time of the fastest of some repetitions."""
    times_s = []
    for _ in range(REPETITIONS):
        started_s = time.process_time()
        action()
        times_s.append(time.process_time() - started_s)
    return min(times_s) * 1000


def measure(
    codec: UpdateCodec, base: Float32Array, target: Float32Array, indices: Int64Array, plan: EncodingPlan = NO_PLAN
) -> tuple[int, SparseUpdate]:
    """Print what one codec takes and return the bytes of the update, and what is decoded from them."""
    payload = codec.encode(base, target, indices, plan)
    encode_ms = fastest_ms(lambda: codec.encode(base, target, indices, plan))
    decode_ms = fastest_ms(lambda: codec.decode(payload, base))
    update = codec.decode(payload, base)
    print(
        f"{codec.name}: {len(payload):,} bytes for {update.indices.size:,} changes, "
        f"{len(payload) * 8 / update.indices.size:.2f} bits each, encode {encode_ms:.1f} ms, decode {decode_ms:.1f} ms"
    )
    return len(payload), update


def unstructured_bytes(base: Float32Array, update: SparseUpdate) -> float:
    """Return the entropy of the changes of an update, each tensor's on its own, in bytes."""
    levels = np.zeros(base.size, np.int64)
    levels[update.indices] = np.rint(
        (update.values - base[update.indices]) / np.abs(update.values - base[update.indices]).min()
    )
    total = 0.0
    for tensor in levels.reshape(TENSORS, -1):
        _, counts = np.unique(tensor, return_counts=True)
        total += float((counts * np.log2(tensor.size / counts)).sum())
    return total / 8


def main() -> None:
    layout = ParameterLayout(tuple(TensorSpec(name=f"tensor{number}", shape=(ROWS, ROW_SIZE)) for number in range(TENSORS)))
    base, target, indices = draw_change(np.random.default_rng(0))
    print(f"{layout.size:,} parameters, {indices.size:,} may change")
    reference_bytes, _ = measure(create_codec("mask-float16", layout), base, target, indices)
    sizes_bytes = {"gap-zstd": measure(create_codec("gap-zstd", layout), base, target, indices)[0]}
    for step in STEPS:
        size_bytes, update = measure(create_codec("delta-rans", layout), base, target, indices, EncodingPlan(step=step))
        sizes_bytes[f"delta-rans, step {step:g}"] = size_bytes
        print(f"  unstructured entropy: {unstructured_bytes(base, update):,.0f} bytes")
    limit_bytes = sizes_bytes["gap-zstd"] // 10
    print(f"kept within {limit_bytes:,} bytes:")
    measure(create_codec("delta-rans", layout), base, target, indices, EncodingPlan(step=STEPS[0], limit_bytes=limit_bytes))
    for name, size in sizes_bytes.items():
        print(f"size of {name} / mask-float16: {size / reference_bytes:.3f}")


if __name__ == "__main__":
    main()
