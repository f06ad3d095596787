"""Outcomes and moments on disk.

A folder with one outcome:
    outcome.json    all that is no array, in text that a person can read; written last: without it the folder is not complete
    frames.npz      what there is of every frame, and label maps
A folder with what a recording's reports may show:
    moments.npz

The same outcome makes the same bytes. Numbers that are not finite become null in JSON and NaN when they are read.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from ams_common.errors import ConfigurationError, system_reason
from ams_eval.files import ArrayKind, pack_arrays, unpack_arrays, write_atomically
from ams_eval.outcome import ControlRecord, Moments, Outcome, SettingValue, Transfer, UpdateRecord
from ams_eval.scores import Score

OUTCOME_NAME, FRAMES_NAME, MOMENTS_NAME = "outcome.json", "frames.npz", "moments.npz"
FORMAT = 1
"""Raised when the files change; others are refused."""
MOST_FILE_BYTES = 1 << 30

_SCORE_KINDS = {"times_s": ArrayKind(np.float64, 1), "matrices": ArrayKind(np.int64, 3)}
_FRAME_KINDS = {
    "versions": ArrayKind(np.int64, 1),
    "model_age_s": ArrayKind(np.float64, 1),
    "moment_frames": ArrayKind(np.int64, 1),
    "moment_labels": ArrayKind(np.uint8, 3),
}
_MOMENT_KINDS = {
    "frames": ArrayKind(np.int64, 1),
    "times_s": ArrayKind(np.float64, 1),
    "pictures": ArrayKind(np.uint8, 4),
    "teacher": ArrayKind(np.uint8, 3),
    "human": ArrayKind(np.uint8, 3),
}


@dataclass(frozen=True, kw_only=True)
class _Document:
    """The content of outcome.json."""

    format: int
    frames_digest: str
    """Of frames.npz, so that files of two runs are never taken for one."""
    recording: str
    recording_digest: str
    scheme: str
    seed: int
    settings: dict[str, SettingValue]
    classes: tuple[str, ...]
    frames_labelled: int
    human: bool
    transfers: tuple[Transfer, ...]
    updates: tuple[UpdateRecord, ...]
    controls: tuple[ControlRecord, ...]


_DOCUMENT = TypeAdapter(_Document)


def write_outcome(outcome: Outcome, folder: Path) -> None:
    """Write an outcome into `folder`, in the place of one that is there.

    Raises:
        ConfigurationError: it cannot be written.
    """
    _check(outcome)
    frames = pack_arrays(_frame_arrays(outcome))
    target = folder / OUTCOME_NAME
    try:
        target.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot write {str(target)!r}: {system_reason(error)}") from error
    write_atomically(folder / FRAMES_NAME, frames)
    write_atomically(target, _document_text(outcome, _digest(frames)).encode())


def read_outcome(folder: Path) -> Outcome:
    """Read the outcome that `write_outcome` wrote into `folder`.

    Raises:
        ConfigurationError: there is none, or it is damaged.
    """
    text, frames = _bytes(folder / OUTCOME_NAME), _bytes(folder / FRAMES_NAME)
    try:
        document = _parse(text)
        if document.frames_digest != _digest(frames):
            raise ValueError(f"{FRAMES_NAME} is not the one that {OUTCOME_NAME} was written with")
        outcome = _outcome(document, frames)
        _check(outcome)
    except ValueError as error:
        raise _damaged(folder, error) from error
    return outcome


def write_moments(moments: Moments, folder: Path) -> None:
    """Write what the reports of a recording may show into `folder`.

    Raises:
        ConfigurationError: it cannot be written.
    """
    _check_moments(moments)
    human = np.empty((0, 0, 0), np.uint8) if moments.human is None else moments.human
    arrays = {name: getattr(moments, name) for name in _MOMENT_KINDS} | {"human": human}
    write_atomically(folder / MOMENTS_NAME, pack_arrays(arrays))


def read_moments(folder: Path) -> Moments:
    """Read what `write_moments` wrote into `folder`.

    Raises:
        ConfigurationError: there is nothing, or it is damaged.
    """
    data = _bytes(folder / MOMENTS_NAME)
    try:
        arrays = unpack_arrays(data, _MOMENT_KINDS)
        human = arrays.pop("human")
        moments = Moments(**arrays, human=human if human.size else None)
        _check_moments(moments)
    except ValueError as error:
        raise _damaged(folder, error) from error
    return moments


def finite_or_none(value: Any) -> Any:
    """Return `value` for JSON: None in the place of every number that is not finite, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite_or_none(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite_or_none(each) for each in value]
    return value


def _document_text(outcome: Outcome, frames_digest: str) -> str:
    """Return the JSON text: keys in alphabetical order, one line for each record."""
    document = _Document(
        format=FORMAT,
        frames_digest=frames_digest,
        recording=outcome.recording,
        recording_digest=outcome.recording_digest,
        scheme=outcome.scheme,
        seed=outcome.seed,
        settings=dict(outcome.settings),
        classes=outcome.classes,
        frames_labelled=outcome.frames_labelled,
        human=outcome.human is not None,
        transfers=outcome.transfers,
        updates=outcome.updates,
        controls=outcome.controls,
    )
    entries = [f"{json.dumps(key)}: {_entry(value)}" for key, value in sorted(vars(document).items())]
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _entry(value: object) -> str:
    if isinstance(value, dict):
        return json.dumps(finite_or_none(value), indent=1, sort_keys=True)
    if isinstance(value, tuple) and value and isinstance(value[0], (Transfer, UpdateRecord, ControlRecord)):
        return "[\n" + ",\n".join(" " + json.dumps(finite_or_none(asdict(each)), sort_keys=True) for each in value) + "\n]"
    return json.dumps(value)


def _parse(text: bytes) -> _Document:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{OUTCOME_NAME} is no JSON: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{OUTCOME_NAME} is not of format {FORMAT}")
    for name in ("transfers", "updates", "controls"):
        content[name] = _nan_for_null(content.get(name))
    try:
        return _DOCUMENT.validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place} of {OUTCOME_NAME}: {first['msg'].lower()}") from error


def _nan_for_null(records: object) -> object:
    """Records have no field that may be None, so null stands for a number that was not finite."""
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        return records
    return [{key: math.nan if each is None else each for key, each in record.items()} for record in records]


def _frame_arrays(outcome: Outcome) -> dict[str, npt.NDArray[Any]]:
    arrays = {name: getattr(outcome, name) for name in _FRAME_KINDS}
    for reference in ("teacher", "human"):
        score: Score | None = getattr(outcome, reference)
        if score is not None:
            arrays |= {f"{reference}_{name}": getattr(score, name) for name in _SCORE_KINDS}
    return arrays


def _outcome(document: _Document, frames: bytes) -> Outcome:
    references = ("teacher", "human") if document.human else ("teacher",)
    score_kinds = {f"{reference}_{name}": kind for reference in references for name, kind in _SCORE_KINDS.items()}
    arrays = unpack_arrays(frames, _FRAME_KINDS | score_kinds)
    scores = {reference: _score(arrays, reference) for reference in references}
    return Outcome(
        recording=document.recording,
        recording_digest=document.recording_digest,
        scheme=document.scheme,
        seed=document.seed,
        settings=document.settings,
        classes=document.classes,
        teacher=scores["teacher"],
        human=scores.get("human"),
        transfers=document.transfers,
        updates=document.updates,
        controls=document.controls,
        frames_labelled=document.frames_labelled,
        **{name: arrays[name] for name in _FRAME_KINDS},
    )


def _score(arrays: Mapping[str, npt.NDArray[Any]], reference: str) -> Score:
    times_s, matrices = (arrays[f"{reference}_{name}"] for name in _SCORE_KINDS)
    _require_lengths(f"{reference} score", [len(times_s), len(matrices)])
    return Score(times_s=times_s, matrices=matrices)


def _check(outcome: Outcome) -> None:
    """See that all parts speak of the same frames and classes; raise ValueError where they do not."""
    classes = len(outcome.classes)
    for score in (outcome.teacher, outcome.human):
        if score is None:
            continue
        if score.matrices.shape[1:] != (classes, classes):
            raise ValueError(f"confusion of {list(score.matrices.shape[1:])} for {classes} classes")
        if not np.isfinite(score.times_s).all() or (np.diff(score.times_s) < 0).any():
            raise ValueError("capture times that do not ascend")
    _require_lengths("frames", [len(outcome.teacher.times_s), len(outcome.versions), len(outcome.model_age_s)])
    _require_lengths("moments", [len(outcome.moment_frames), len(outcome.moment_labels)])


def _check_moments(moments: Moments) -> None:
    _require_lengths("moments", [len(getattr(moments, name)) for name in _MOMENT_KINDS if name != "human"])
    if moments.pictures.shape[-1] != 3:
        raise ValueError(f"pictures of shape {list(moments.pictures.shape)}")
    if moments.human is not None and moments.human.shape != moments.teacher.shape:
        raise ValueError("human labels that do not fit the teacher's")


def _require_lengths(what: str, lengths: Sequence[int]) -> None:
    if len(set(lengths)) != 1:
        raise ValueError(f"{what} counted as {', '.join(map(str, lengths))}")


def _bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise ConfigurationError(f"{str(path)!r} has more than {MOST_FILE_BYTES} bytes, no result is so large")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigurationError(f"no finished result in {str(path.parent)!r}: it has no {path.name}") from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {str(path)!r}: {system_reason(error)}") from error


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _damaged(folder: Path, error: ValueError) -> ConfigurationError:
    reason = str(error).splitlines()[0]
    return ConfigurationError(f"the result in {str(folder)!r} is damaged ({reason}): remove it and run again")
