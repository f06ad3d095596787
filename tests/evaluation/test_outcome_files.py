import json
import math
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluation.outcomes import CLASSES, moments, outcome

from ams_common.errors import ConfigurationError
from ams_eval.outcome import ControlRecord, Outcome, Transfer, UpdateRecord
from ams_eval.outcome_files import FRAMES_NAME, OUTCOME_NAME, read_moments, read_outcome, write_moments, write_outcome
from ams_eval.scores import Score

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
COUNTS = st.integers(0, 2**53)
FLOATS = st.floats(allow_infinity=False)
FINITE = st.floats(-1e9, 1e9)
SETTINGS = st.dictionaries(TEXT, st.one_of(TEXT, COUNTS, FINITE, st.booleans(), st.none()), max_size=4)


def same(left: object, right: object) -> bool:
    """Tell whether two values are equal, NaN to NaN, with the same types."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        return left.dtype == right.dtype and np.array_equal(left, right, equal_nan=left.dtype.kind == "f")
    if isinstance(left, tuple) and isinstance(right, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if is_dataclass(left):
        return all(same(getattr(left, field.name), getattr(right, field.name)) for field in fields(left))
    return left == right or (isinstance(left, float) and math.isnan(left))


def records(record: type[Any], /, **strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    numbers = {f.name: COUNTS if f.type == "int" or f.type is int else FLOATS for f in fields(record)}
    return st.lists(st.builds(record, **{**numbers, **strategies}), max_size=3).map(tuple)


@st.composite
def outcomes(draw: st.DrawFn) -> Outcome:
    frames, labelled, kept = draw(st.integers(0, 5)), draw(st.integers(0, 3)), draw(st.integers(0, 2))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    classes = tuple(draw(st.lists(TEXT, min_size=1, max_size=4, unique=True)))

    def score(count: int) -> Score:
        return Score(
            times_s=np.sort(random.random(count)), matrices=random.integers(0, 2**40, (count, len(classes), len(classes)))
        )

    ages = random.random(frames)
    ages[random.random(frames) < 0.5] = math.nan
    return Outcome(
        recording=draw(TEXT),
        recording_digest=draw(TEXT),
        scheme=draw(TEXT),
        seed=draw(COUNTS),
        settings=draw(SETTINGS),
        classes=classes,
        teacher=score(frames),
        human=score(labelled) if draw(st.booleans()) else None,
        transfers=draw(records(Transfer, direction=st.sampled_from(["up", "down"]), kind=st.sampled_from(["frames", "model"]))),
        updates=draw(records(UpdateRecord)),
        controls=draw(records(ControlRecord)),
        versions=random.integers(0, 9, frames),
        model_age_s=ages,
        frames_labelled=draw(COUNTS),
        moment_frames=np.arange(kept),
        moment_labels=random.integers(0, 255, (kept, 3, 2), dtype=np.uint8),
    )


@settings(max_examples=40, deadline=None)
@given(value=outcomes())
def test_what_is_written_is_read_again(value: Outcome, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("outcome")
    write_outcome(value, folder)
    assert same(read_outcome(folder), value)


@pytest.mark.parametrize("human", [True, False])
def test_moments_are_read_again(tmp_path: Path, human: bool) -> None:
    write_moments(moments(human=human), tmp_path / "new" / "folder")
    assert same(read_moments(tmp_path / "new" / "folder"), moments(human=human))


def test_the_same_outcome_makes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_outcome(outcome(), tmp_path / name)
        write_moments(moments(), tmp_path / name)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("a", "b"))
    assert first == second
    assert set(first) == {"outcome.json", "frames.npz", "moments.npz"}


def test_the_text_is_for_people_too(tmp_path: Path) -> None:
    write_outcome(outcome(), tmp_path)
    text = (tmp_path / OUTCOME_NAME).read_text(encoding="utf-8")
    document = json.loads(text)
    assert list(document) == sorted(document)
    assert document["updates"][0]["mask_overlap"] is None
    assert "NaN" not in text
    assert sum(line.startswith(' {"build_s"') for line in text.splitlines()) == 3


def test_an_outcome_takes_the_place_of_another(tmp_path: Path) -> None:
    write_outcome(outcome(seed=1), tmp_path)
    write_outcome(outcome(seed=2), tmp_path)
    assert read_outcome(tmp_path).seed == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_without_its_json_is_not_complete(tmp_path: Path) -> None:
    write_outcome(outcome(), tmp_path)
    (tmp_path / OUTCOME_NAME).unlink()
    with pytest.raises(ConfigurationError, match=r"no finished result in .* it has no outcome\.json"):
        read_outcome(tmp_path)


def test_files_of_two_runs_are_not_one_result(tmp_path: Path) -> None:
    write_outcome(outcome(seed=1), tmp_path / "a")
    write_outcome(outcome(seed=2), tmp_path / "b")
    (tmp_path / "b" / FRAMES_NAME).replace(tmp_path / "a" / FRAMES_NAME)
    with pytest.raises(ConfigurationError, match="damaged"):
        read_outcome(tmp_path / "a")


def test_parts_that_speak_of_other_frames_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frames counted as 40, 3, 40"):
        write_outcome(replace(outcome(), versions=np.zeros(3, np.int64)), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"seed": 0', '"seed": "many"'),
        ('"format": 1', '"format": 2'),
        ('"direction": "up"', '"direction": "sideways"'),
        ('"human": true', '"human": false'),
        (f'"classes": ["{CLASSES[0]}", ', '"classes": ['),
        ('"transfers": [', '"transfers": 7, "x": ['),
        ("{", ""),
        ("{", "[" * 100_000),
    ],
)
def test_text_that_was_changed_is_refused(tmp_path: Path, old: str, new: str) -> None:
    write_outcome(outcome(), tmp_path)
    path = tmp_path / OUTCOME_NAME
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ConfigurationError, match="is damaged"):
        read_outcome(tmp_path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_never_do_more_than_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    write_moments(moments(), folder)
    path = folder / "moments.npz"
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    with suppress(ConfigurationError):
        read_moments(folder)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot write"):
        write_outcome(outcome(), tmp_path / "file" / "folder")
