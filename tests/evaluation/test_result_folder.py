from dataclasses import replace
from pathlib import Path

import pytest
from tests.evaluation.outcomes import moments, outcome

from ams_common.errors import ConfigurationError
from ams_eval.outcome import Outcome
from ams_eval.outcome_files import OUTCOME_NAME, write_moments, write_outcome
from ams_eval.result_folder import Run, base_of, differing_settings, find_moments, read_runs, scheme_rank, with_labels


def store(out: Path, *outcomes: Outcome) -> None:
    for index, each in enumerate(outcomes):
        write_outcome(each, out / "runs" / f"{each.recording}--{index}")


def run_of(each: Outcome) -> Run:
    return Run(folder=Path(), outcome=each, label=each.scheme)


def test_runs_come_by_recording_scheme_and_seed(tmp_path: Path) -> None:
    store(tmp_path, outcome("zeal"), outcome("ams", seed=1), outcome("ams"), outcome("none"), outcome(recording="bay"))
    (tmp_path / "runs" / "unfinished").mkdir()
    told = [(run.outcome.recording, run.label, run.outcome.seed) for run in read_runs(tmp_path)]
    assert told == [("bay", "ams", 0), ("quay", "none", 0), ("quay", "ams", 0), ("quay", "ams", 1), ("quay", "zeal", 0)]


def test_the_folder_of_one_run_is_read_too(tmp_path: Path) -> None:
    store(tmp_path, outcome())
    assert [run.label for run in read_runs(tmp_path / "runs" / "quay--0")] == ["ams"]


def test_nothing_finished_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no finished runs"):
        read_runs(tmp_path)
    store(tmp_path, outcome())
    (tmp_path / "runs" / "quay--0" / OUTCOME_NAME).write_text("{}")
    with pytest.raises(ConfigurationError, match="damaged"):
        read_runs(tmp_path)


def test_moments_are_found_where_there_are_any(tmp_path: Path) -> None:
    assert find_moments(tmp_path, "quay") is None
    write_moments(moments(), tmp_path / "recordings" / "quay")
    assert find_moments(tmp_path, "quay") is not None


def test_one_scheme_in_two_ways_is_told_apart_by_what_differs() -> None:
    ways = [outcome(settings={"fraction": share}) for share in (0.05, 0.01)]
    alone = outcome(recording="bay", settings={"fraction": 0.2, "student": "other"})
    labels = [run.label for run in with_labels([run_of(each) for each in (*ways, alone, outcome("none"))])]
    assert labels == ["ams (fraction=0.05)", "ams (fraction=0.01)", "ams (fraction=0.2)", "none"]


def test_settings_differ_by_value_and_by_type() -> None:
    assert differing_settings([outcome(settings={"a": 1, "b": True}), outcome(settings={"a": 1.5, "b": 1})]) == {"a", "b"}
    assert differing_settings([outcome(), outcome(settings={"new": None})]) == set()


def test_the_base_has_the_same_frames_and_if_possible_the_same_seed() -> None:
    bases = [run_of(outcome("none", seed=seed)) for seed in (0, 1)]
    others = [run_of(outcome("none", recording="bay")), run_of(outcome("none", frames=10))]
    assert base_of(run_of(outcome(seed=1)), [*others, *bases]) is bases[1]
    assert base_of(run_of(outcome(seed=7)), [*others, *bases]) is bases[0]
    assert base_of(run_of(outcome()), others) is None
    assert base_of(run_of(replace(outcome(), classes=("a", "b", "c"))), bases) is None


def test_schemes_are_ordered_from_nothing_to_everything() -> None:
    names = ["mine", "full", "ams:fraction=0.01", "jit", "none", "ams"]
    assert sorted(names, key=scheme_rank) == ["none", "jit", "ams", "ams:fraction=0.01", "full", "mine"]
