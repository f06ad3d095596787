"""What differs between two sets of runs: settings, agreement, traffic."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ams_common.errors import ConfigurationError
from ams_common.iou import Float64Array
from ams_eval.bootstrap import (
    BLOCK_S,
    LEAST_BLOCKS,
    RESAMPLES,
    Interval,
    block_sums,
    comparable,
    interval,
    resampled_differences,
)
from ams_eval.groups import Group
from ams_eval.metrics import spread
from ams_eval.outcome import SettingValue
from ams_eval.result_folder import Run, unique
from ams_eval.scores import Score
from ams_eval.summary import summarise

UNKNOWN = Interval(math.nan, math.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """What both sides did on one recording with one scheme, or each with its only one: a run for each seed."""

    recording: str
    scheme: str
    first: tuple[Run, ...]
    second: tuple[Run, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """All that can be compared, and what only one side has."""

    pairs: tuple[Pair, ...]
    only_first: tuple[str, ...]
    """Recording and scheme."""
    only_second: tuple[str, ...]


class Agreement(NamedTuple):
    """mIoU, 0..1, of the confusion summed over frames and seeds, on both sides; means over recordings where it is of "
    "several."""

    recording: str
    scheme: str
    reference: str
    first: float
    second: float
    interval: Interval
    """Of `second` minus `first`."""
    blocks: int
    """Blocks of time that the interval is drawn from."""


class Cost(NamedTuple):
    """One number of both sides, means over recordings and seeds."""

    scheme: str
    name: str
    """Field of Summary."""
    first: float
    second: float


class SettingDifference(NamedTuple):
    """A setting that the two sides have different."""

    scheme: str
    name: str
    first: str
    second: str


def pair_runs(first: Sequence[Run], second: Sequence[Run]) -> Pairs:
    """Pair the runs of the same recording and scheme, or of the only scheme of each side.

    Raises:
        ConfigurationError: the two sides have nothing in common.
    """
    labels = [unique(run.label for run in runs) for runs in (first, second)]
    rename = dict(zip(*labels, strict=True)) if all(len(each) == 1 for each in labels) else {}
    one, two = _by_key(first, rename), _by_key(second, {})
    pairs = tuple(
        Pair(recording=runs[0].outcome.recording, scheme=_scheme(runs[0], two[key][0]), first=runs, second=two[key])
        for key, runs in one.items()
        if key in two
    )
    if not pairs:
        raise ConfigurationError(f"nothing to compare: one folder has {_told(one)}, the other {_told(two)}")
    return Pairs(
        pairs=pairs,
        only_first=tuple(_name(runs[0]) for key, runs in one.items() if key not in two),
        only_second=tuple(_name(runs[0]) for key, runs in two.items() if key not in one),
    )


def agreements(
    pairs: Sequence[Pair], *, seed: int = 0, block_s: float = BLOCK_S, resamples: int = RESAMPLES
) -> list[Agreement]:
    """Return the mIoU of both sides against teacher and people, by recording and then over all of them, with intervals."""
    found: list[Agreement] = []
    for scheme in unique(pair.scheme for pair in pairs):
        for reference in ("teacher", "human"):
            rows = [
                (row, differences)
                for pair in pairs
                if pair.scheme == scheme and (scores := _scores(pair, reference)) is not None
                for row, differences in [_agreement(pair, reference, *scores, block_s, resamples, np.random.default_rng(seed))]
            ]
            found += [row for row, _ in rows]
            if len(rows) > 1:
                found.append(_over_all(rows))
    return found


def costs(pairs: Sequence[Pair]) -> list[Cost]:
    """Return what both sides send, label and train, by scheme."""
    names = (
        "up_kbps",
        "up_wire_kbps",
        "down_kbps",
        "down_wire_kbps",
        "first_model_kb",
        "frames_labelled",
        "updates",
        "steps",
        "model_age_mean_s",
        "model_age_p95_s",
        "latency_mean_s",
    )
    found = []
    for scheme in unique(pair.scheme for pair in pairs):
        mine = [pair for pair in pairs if pair.scheme == scheme]
        sides = [Group(summarise([run for pair in mine for run in side(pair)])) for side in (_first, _second)]
        rows = [Cost(scheme, name, sides[0].mean(name), sides[1].mean(name)) for name in names]
        found += [row for row in rows if not (_nothing(row.first) and _nothing(row.second))]
    return found


def setting_differences(pairs: Sequence[Pair]) -> list[SettingDifference]:
    """Return the settings, the seeds among them, that differ between the sides of any recording, by scheme."""
    found: dict[SettingDifference, None] = {}
    for pair in pairs:
        names = sorted({name for run in (*pair.first, *pair.second) for name in run.outcome.settings})
        sides = [(name, _values(pair.first, name), _values(pair.second, name)) for name in names]
        sides.append(("seed", _seeds(pair.first), _seeds(pair.second)))
        found |= {SettingDifference(pair.scheme, *side): None for side in sides if side[1] != side[2]}
    return list(found)


def _agreement(
    pair: Pair,
    reference: str,
    first: Sequence[Score],
    second: Sequence[Score],
    block_s: float,
    resamples: int,
    generator: np.random.Generator,
) -> tuple[Agreement, Float64Array]:
    mious = [spread([_summed(side).miou()]).mean for side in (first, second)]
    row = Agreement(pair.recording, pair.scheme, reference, mious[0], mious[1], UNKNOWN, 0)
    if not comparable(first, second):
        return row, np.zeros(0)
    sums = block_sums(first, block_s), block_sums(second, block_s)
    if len(sums[0]) < LEAST_BLOCKS:
        return row._replace(blocks=len(sums[0])), np.zeros(0)
    differences = resampled_differences(*sums, resamples=resamples, generator=generator)
    return row._replace(interval=interval(differences), blocks=len(sums[0])), differences


def _over_all(rows: Sequence[tuple[Agreement, Float64Array]]) -> Agreement:
    """Return the mean over recordings; their blocks were drawn within each of them."""
    known = [differences for _, differences in rows if differences.size]
    told = interval(np.mean(known, axis=0)) if len(known) == len(rows) else UNKNOWN
    first, second = (spread(values).mean for values in zip(*((row.first, row.second) for row, _ in rows), strict=True))
    last = rows[-1][0]
    blocks = sum(row.blocks for row, _ in rows)
    return Agreement(f"mean of {len(rows)}", last.scheme, last.reference, first, second, told, blocks)


def _scores(pair: Pair, reference: str) -> tuple[list[Score], list[Score]] | None:
    """Return the scores of both sides against a reference; None where a run has none."""
    sides = [[getattr(run.outcome, reference) for run in runs] for runs in (pair.first, pair.second)]
    return None if any(score is None for side in sides for score in side) else (sides[0], sides[1])


def _summed(scores: Sequence[Score]) -> Score:
    matrices = np.concatenate([score.matrices for score in scores])
    return Score(times_s=np.zeros(len(matrices)), matrices=matrices)


def _by_key(runs: Iterable[Run], rename: dict[str, str]) -> dict[tuple[str, str, str], tuple[Run, ...]]:
    found: dict[tuple[str, str, str], tuple[Run, ...]] = {}
    for run in runs:
        key = run.outcome.recording, run.outcome.recording_digest, rename.get(run.label, run.label)
        found[key] = (*found.get(key, ()), run)
    return found


def _scheme(first: Run, second: Run) -> str:
    return first.label if first.label == second.label else f"{first.label} → {second.label}"


def _name(run: Run) -> str:
    return f"{run.label} on {run.outcome.recording} ({run.outcome.recording_digest[:8]})"


def _told(runs: dict[tuple[str, str, str], tuple[Run, ...]]) -> str:
    names = [_name(each[0]) for each in runs.values()]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _first(pair: Pair) -> tuple[Run, ...]:
    return pair.first


def _second(pair: Pair) -> tuple[Run, ...]:
    return pair.second


def _nothing(value: float) -> bool:
    return value == 0 or math.isnan(value)


def _seeds(runs: Sequence[Run]) -> str:
    return ", ".join(str(run.outcome.seed) for run in runs)


def _values(runs: Sequence[Run], name: str) -> str:
    values: list[SettingValue] = [run.outcome.settings.get(name) for run in runs]
    return ", ".join(unique("–" if value is None else str(value) for value in values))
