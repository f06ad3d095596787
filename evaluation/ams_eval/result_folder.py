"""A folder of results: what was run on which recording, in the order in which tables show it.

OUT/runs/<recording>--<scheme>--s<seed>--<digest>/   outcome.json, frames.npz, report.html
OUT/recordings/<recording>/                          moments.npz
OUT/                                                 report.html, summary.csv, summary.json
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ams_common.errors import ConfigurationError
from ams_eval.inputs.recording import Recording
from ams_eval.outcome import Moments, Outcome
from ams_eval.outcome_files import MOMENTS_NAME, OUTCOME_NAME, read_moments, read_outcome

RUNS, RECORDINGS = "runs", "recordings"
NO_CUSTOMISATION = "none"
"""The scheme that all others are compared with."""
_ORDER = (
    NO_CUSTOMISATION,
    "one-time",
    "remote",
    "tracking",
    "jit",
    "ams",
    "paper",
    "authors_code",
    "full",
    "oracle",
    "offline",
)
"""Schemes from doing nothing to doing all that can be done; others come last, by name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One outcome and the folder that it was read from."""

    folder: Path
    outcome: Outcome
    label: str
    """The scheme, with the settings that tell it apart where one scheme was run in several ways."""


def read_runs(out: Path) -> tuple[Run, ...]:
    """Read all finished runs below `out`, or the one in it, ordered by recording, scheme and seed.

    Raises:
        ConfigurationError: there is none, or one is damaged.
    """
    single = (out / OUTCOME_NAME).is_file()
    folders = [out] if single else sorted(path.parent for path in (out / RUNS).glob(f"*/{OUTCOME_NAME}"))
    if not folders:
        raise ConfigurationError(f"no finished runs in {str(out)!r}: it has no {RUNS}/*/{OUTCOME_NAME}")
    runs = [
        Run(folder=folder, outcome=outcome, label=outcome.scheme) for folder in folders for outcome in [read_outcome(folder)]
    ]
    return tuple(sorted(with_labels(runs), key=_order))


def find_moments(out: Path, recording: str) -> Moments | None:
    """Return what reports may show of a recording; None where nothing was kept.

    Raises:
        ConfigurationError: it is damaged.
    """
    folder = out / RECORDINGS / recording
    return read_moments(folder) if (folder / MOMENTS_NAME).is_file() else None


def require_same_frames(recording: Recording, out: Path) -> None:
    """Refuse to go on in a folder with runs on other frames of the same name.

    Raises:
        ConfigurationError: there are such runs, or one is damaged.
    """
    for path in sorted((out / RUNS).glob(f"{recording.name}--*/{OUTCOME_NAME}")):
        outcome = read_outcome(path.parent)
        if outcome.recording != recording.name:
            continue
        if outcome.recording_digest != recording.digest:
            raise ConfigurationError(
                f"{str(out)!r} holds results on other frames of the name {recording.name!r}: use another --out"
            )
        return


def with_labels(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with labels that tell apart those of one recording, scheme and seed with different settings."""
    differing: dict[str, set[str]] = {}
    groups: dict[tuple[str, str, int], list[Outcome]] = {}
    for run in runs:
        groups.setdefault((run.outcome.recording, run.outcome.scheme, run.outcome.seed), []).append(run.outcome)
    for (_, scheme, _), outcomes in groups.items():
        differing.setdefault(scheme, set()).update(differing_settings(outcomes))
    return [replace(run, label=_label(run.outcome, sorted(differing[run.outcome.scheme]))) for run in runs]


def differing_settings(outcomes: Iterable[Outcome]) -> set[str]:
    """Return the names of the settings in which the outcomes are not all alike."""
    rows = [outcome.settings for outcome in outcomes]
    names = {name for row in rows for name in row}
    return {name for name in names if len({(type(row.get(name)), row.get(name)) for row in rows}) > 1}


def unique(values: Iterable[str]) -> list[str]:
    """Return each value once, in the order of the first appearances."""
    return list(dict.fromkeys(values))


def base_of(run: Run, runs: Iterable[Run]) -> Run | None:
    """Return the run without customisation on the same recording and frames, if possible of the same seed; None without one."""
    found = [
        other
        for other in runs
        if other.outcome.scheme == NO_CUSTOMISATION
        and other.outcome.recording == run.outcome.recording
        and other.outcome.classes == run.outcome.classes
        and other.outcome.teacher.times_s.tolist() == run.outcome.teacher.times_s.tolist()
    ]
    return min(found, key=lambda other: other.outcome.seed != run.outcome.seed, default=None)


def scheme_rank(scheme: str) -> tuple[int, str]:
    """Return a key to order schemes by."""
    place = next((index for index, name in enumerate(_ORDER) if scheme.startswith(name)), len(_ORDER))
    return place, scheme


def _label(outcome: Outcome, names: Sequence[str]) -> str:
    if not names:
        return outcome.scheme
    return f"{outcome.scheme} ({', '.join(f'{name}={outcome.settings.get(name)}' for name in names)})"


def _order(run: Run) -> tuple[str, tuple[int, str], str, int]:
    return run.outcome.recording, scheme_rank(run.outcome.scheme), run.label, run.outcome.seed
