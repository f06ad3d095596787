"""Update codecs: bytes and bits for each changed parameter, beside the entropy, and the time of encoding and decoding.

Without an argument one change of a student of 2.1 million parameters of which 5 % may change, drawn from a seed and shaped like
those of gradient-guided training: tensors differ widely in how many of their parameters change, and so do the rows of a tensor;
changes are a few learning rates large. With a folder the updates of real phases that `downlink_loop.py --record-updates` wrote.

Of each update the largest changes are taken, as many as several fractions of the parameters, by formats that send all of them;
delta-rans takes all and quantises them at several steps, and within several limits. The columns, of the median update:

entropy    bits for each changed parameter if every parameter of a tensor were drawn alone: which ones change, and 16 bits for a
           value, or for delta-rans by how many steps and in which direction
model      the code length that the format's own adaptive model assigns, and what the bytes are above it in %

    python benchmarks/update_codec.py [FOLDER]
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import NamedTuple
from unittest.mock import patch

import numpy as np

from ams_common.layout import Float32Array, ParameterLayout, TensorSpec
from ams_common.rans import Int64Array, RansWriter
from ams_common.sparse_update import EncodingPlan, SparseUpdate, UpdateCodec
from ams_common.update_codec import CODECS, create_codec
from helpers.recorded_updates import RecordedUpdate, recorded_layout, recorded_updates

TENSORS, ROWS, ROW_SIZE = 64, 192, 172
FRACTION = 0.05
SPREAD, STEP = 4e-3, 4e-3
FRACTIONS = (0.05, 0.02, 0.01)
COARSENESS = (1, 2, 4)
LIMITS_BYTES = (24_000, 12_000, 4_500)
VALUE_BITS = 16
REPETITIONS = 3
FINISH = RansWriter.finish
WRITTEN: dict[bytes, float] = {}
"""What rANS has written since the latest update began, and the bits that its model assigned to it."""


class Figures(NamedTuple):
    """What a codec takes for one update."""

    size_bytes: float
    changed: float
    entropy_bits: float
    model_bits: float
    """0 for a format without a model of its own."""
    encode_ms: float
    decode_ms: float


class Case(NamedTuple):
    """What is asked of a codec."""

    text: str
    fraction: float = 1.0
    """Part of the parameters, those of the largest changes, that may change."""
    coarseness: float = 1.0
    """Factor of the update's step."""
    limit_bytes: int | None = None


def drawn_update() -> tuple[ParameterLayout, list[RecordedUpdate]]:
    """Return a layout and one update of it."""
    generator = np.random.default_rng(0)
    layout = ParameterLayout(tuple(TensorSpec(name=f"tensor{number}", shape=(ROWS, ROW_SIZE)) for number in range(TENSORS)))
    density = np.repeat(generator.lognormal(0, 0.7, TENSORS), ROWS) * generator.gamma(0.5, 2, TENSORS * ROWS)
    density *= FRACTION / density.mean()
    indices = np.flatnonzero(generator.random(layout.size) < np.repeat(density, ROW_SIZE))
    base = generator.normal(0, 0.05, indices.size).astype(np.float32)
    target = base + generator.normal(0, SPREAD, indices.size).astype(np.float32)
    return layout, [RecordedUpdate(indices, base, target, EncodingPlan(step=STEP))]


def cases(codec: UpdateCodec) -> list[Case]:
    """Return what is asked of `codec`."""
    if not codec.keeps_limit:
        return [Case(f"largest {100 * fraction:g} %", fraction=fraction) for fraction in FRACTIONS]
    steps = [Case(f"step x {coarseness}", coarseness=coarseness) for coarseness in COARSENESS]
    return steps + [Case(f"within {limit_bytes:,}", limit_bytes=limit_bytes) for limit_bytes in LIMITS_BYTES]


def asked(case: Case, layout: ParameterLayout, update: RecordedUpdate) -> RecordedUpdate:
    """Return what becomes of `update` in a case."""
    count = round(case.fraction * layout.trainable_size)
    kept = np.sort(np.argsort(-np.abs(update.target - update.base), kind="stable")[:count])
    plan = replace(update.plan, step=case.coarseness * update.plan.step, limit_bytes=case.limit_bytes)
    return RecordedUpdate(update.indices[kept], update.base[kept], update.target[kept], plan)


def figures(codec: UpdateCodec, layout: ParameterLayout, update: RecordedUpdate) -> Figures:
    """Encode and decode `update` once."""
    WRITTEN.clear()
    base = np.zeros(layout.size, np.float32)
    base[update.indices] = update.base
    target = base.copy()
    target[update.indices] = update.target
    started_s = time.process_time()
    payload = codec.encode(base, target, update.indices, update.plan)
    encoded_s = time.process_time()
    decoded = codec.decode(payload, base)
    decoded_s = time.process_time()
    changed = len(decoded.indices)
    return Figures(
        size_bytes=len(payload),
        changed=changed,
        entropy_bits=quantised_entropy(layout, base, decoded) if codec.keeps_limit else mask_entropy(layout, decoded.indices),
        model_bits=model_bits(payload, changed),
        encode_ms=1000 * (encoded_s - started_s),
        decode_ms=1000 * (decoded_s - encoded_s),
    )


def watched(writer: RansWriter, seeds: Int64Array) -> bytes:
    """Do what `RansWriter.finish` does, and note what the model assigned."""
    stream = FINISH(writer, seeds)
    WRITTEN[stream] = writer.ideal_bits
    return stream


def model_bits(payload: bytes, changed: int) -> float:
    """Return the bits that were assigned to `payload`, a sign for each of `changed` parameters included; 0 if none were."""
    return next((bits + changed for stream, bits in WRITTEN.items() if stream in payload), 0.0)


def mask_entropy(layout: ParameterLayout, indices: Int64Array) -> float:
    """Return the bits of a mask and of 16 bits for each value."""
    chosen = np.zeros(layout.size, np.int64)
    chosen[indices] = 1
    return entropy(layout, chosen) + VALUE_BITS * len(indices)


def quantised_entropy(layout: ParameterLayout, base: Float32Array, update: SparseUpdate) -> float:
    """Return the bits of changes in whole steps of their tensors."""
    changes = np.zeros(layout.size, np.float32)
    changes[update.indices] = update.values - base[update.indices]
    levels = [np.rint(change / least_change(change)).astype(np.int64).ravel() for _, change in layout.views(changes)]
    return entropy(layout, np.concatenate(levels))


def least_change(changes: Float32Array) -> float:
    """Return the smallest of `changes` that is not zero, 1 if none is."""
    return float(np.abs(changes[changes != 0]).min(initial=np.inf)) if changes.any() else 1.0


def entropy(layout: ParameterLayout, symbols: Int64Array) -> float:
    """Return the bits of `symbols`, int64 [P], if those of each tensor are drawn alone."""
    total = 0.0
    for tensor, start in zip(layout.tensors, layout.offsets, strict=True):
        _, counts = np.unique(symbols[start : start + tensor.size], return_counts=True)
        total += float((counts * np.log2(tensor.size / counts)).sum())
    return total


def row(name: str, case: str, measured: list[Figures]) -> str:
    """Return a line of the table."""
    middle = Figures(*(median(values) for values in zip(*measured, strict=True)))
    bits = [8 * each.size_bytes / max(1, each.changed) for each in measured]
    entropies = [each.entropy_bits / max(1, each.changed) for each in measured]
    model = "–"
    if middle.model_bits:
        above = median(8 * each.size_bytes / each.model_bits - 1 for each in measured)
        model = f"{median(each.model_bits / max(1, each.changed) for each in measured):.2f}, +{100 * above:.1f} %"
    return (
        f"| {name} | {case} | {middle.size_bytes:,.0f} | {middle.changed:,.0f} | {median(bits):.2f} | {median(entropies):.2f} "
        f"| {model} | {middle.encode_ms:.1f} | {middle.decode_ms:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="recorded updates")
    folder: Path | None = parser.parse_args().folder
    layout, updates = drawn_update() if folder is None else (recorded_layout(folder), list(recorded_updates(folder)))
    print(f"{layout.trainable_size:,} parameters, {updates[-1].indices.size:,} may change, {len(updates)} updates\n")
    print("| codec | of what | bytes | changed | bits each | entropy | model | encode, ms | decode, ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in CODECS:
        codec = create_codec(name, layout)
        for case in cases(codec):
            wanted = [asked(case, layout, update) for update in updates]
            figures(codec, layout, wanted[0])
            print(row(name, case.text, [figures(codec, layout, update) for update in wanted for _ in range(REPETITIONS)]))


if __name__ == "__main__":
    with patch.object(RansWriter, "finish", watched):
        main()
