"""Update codecs: throughput and size for a student of 2.1 million parameters of which 5 % change.

The change is drawn from a seed and shaped like those of gradient-guided training: tensors differ widely in how many of their
parameters change, and changes are a few learning rates large. Prints one line per codec, then the size of gap-zstd relative to
the reference format.

    python benchmarks/update_codec.py
"""

import time
from collections.abc import Callable

import numpy as np

from ams_common.layout import Float32Array, ParameterLayout, TensorSpec
from ams_common.sparse_update import Int64Array, UpdateCodec
from ams_common.update_codec import CODECS, create_codec

TENSORS, TENSOR_SIZE = 64, 33_000
FRACTION = 0.05
REPETITIONS = 5


def draw_change(generator: np.random.Generator) -> tuple[Float32Array, Float32Array, Int64Array]:
    """Return base and target, float32 [P], and the changed positions, int64 [k]."""
    base = generator.normal(0, 0.05, TENSORS * TENSOR_SIZE).astype(np.float32)
    density = np.repeat(generator.lognormal(0, 0.7, TENSORS), TENSOR_SIZE)
    density *= FRACTION / density.mean()
    indices = np.flatnonzero(generator.random(base.size) < density)
    target = base.copy()
    target[indices] += generator.normal(0, 4e-3, indices.size).astype(np.float32)
    return base, target, indices


def fastest_ms(action: Callable[[], object]) -> float:
    """Return the milliseconds of the fastest of some repetitions."""
    times_s = []
    for _ in range(REPETITIONS):
        started_s = time.perf_counter()
        action()
        times_s.append(time.perf_counter() - started_s)
    return min(times_s) * 1000


def measure(codec: UpdateCodec, base: Float32Array, target: Float32Array, indices: Int64Array) -> int:
    """Print what one codec takes and return the bytes of the update."""
    payload = codec.encode(base, target, indices)
    encode_ms = fastest_ms(lambda: codec.encode(base, target, indices))
    decode_ms = fastest_ms(lambda: codec.decode(payload, base))
    print(
        f"{codec.name}: {len(payload):,} bytes, {len(payload) * 8 / indices.size:.2f} bits per changed parameter, "
        f"encode {encode_ms:.1f} ms ({base.size / encode_ms / 1000:.0f} M parameters/s), "
        f"decode {decode_ms:.1f} ms ({base.size / decode_ms / 1000:.0f} M parameters/s)"
    )
    return len(payload)


def main() -> None:
    layout = ParameterLayout(tuple(TensorSpec(name=f"tensor{number}", shape=(TENSOR_SIZE,)) for number in range(TENSORS)))
    base, target, indices = draw_change(np.random.default_rng(0))
    print(f"{layout.size:,} parameters, {indices.size:,} changed")
    sizes_bytes = {name: measure(create_codec(name, layout), base, target, indices) for name in CODECS}
    print(f"size of gap-zstd / mask-float16: {sizes_bytes['gap-zstd'] / sizes_bytes['mask-float16']:.3f}")


if __name__ == "__main__":
    main()
