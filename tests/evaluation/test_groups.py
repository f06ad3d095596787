import dataclasses
import math

import pytest
from tests.evaluation.outcomes import RUNS

from ams_eval.groups import Group, by_scheme, complete, describe_missing, describe_untaught, shared_name, sharing_losses
from ams_eval.summary import Summary, summarise


def row(recording: str, seed: int, value: float) -> Summary:
    return dataclasses.replace(summarise(RUNS)[1], recording=recording, seed=seed, miou_window=value)


def test_means_are_over_recordings_of_means_over_seeds() -> None:
    group = Group((row("a", 0, 0.5), row("a", 1, 0.7), row("b", 0, 0.9)))
    assert group.mean("miou_window") == pytest.approx((0.6 + 0.9) / 2)
    assert group.seeds() == 2


def test_the_deviation_is_between_seeds_not_between_recordings() -> None:
    group = Group((row("a", 0, 0.5), row("b", 0, 0.9), row("a", 1, 0.6), row("b", 1, 1.0)))
    assert group.deviation("miou_window") == pytest.approx(math.sqrt(2 * 0.05**2))
    assert math.isnan(Group((row("a", 0, 0.5), row("b", 0, 0.9))).deviation("miou_window"))
    assert math.isnan(group.mean("late_miou_window"))
    assert math.isnan(Group((row("a", 0, 0.5), row("b", 1, 0.9))).deviation("miou_window"))


def test_only_schemes_that_met_every_recording_are_complete() -> None:
    rows = [row("a", 0, 0.5), row("b", 0, 0.9), dataclasses.replace(row("a", 0, 0.4), scheme="none")]
    groups = by_scheme(rows)
    assert [group.scheme for group in groups] == ["ams", "none"]
    assert [group.scheme for group in complete(groups)] == ["ams"]
    assert describe_missing(groups) == "Of 2 recordings, none on 1: means over different recordings cannot be compared."
    assert not describe_missing(groups[:1])


def test_recordings_that_taught_a_learner_nothing_are_named() -> None:
    short = [dataclasses.replace(row("a", seed, 0.5), updates=0) for seed in (0, 1)]
    # No customisation asks for nothing, so that nothing can be missing.
    rows = [*short, row("b", 0, 0.9), summarise(RUNS)[0]]
    told = "No update took effect in ams on a: a recording must be longer than the update interval and the way of an update."
    assert describe_untaught(by_scheme(rows)) == told
    assert not describe_untaught(by_scheme(rows[2:]))


def test_what_a_shared_server_costs_is_told_on_the_recordings_of_both() -> None:
    name = shared_name("ams", 3)
    rows = [row("a", 0, 0.8), row("a", 1, 0.6), row("b", 0, 0.9)]
    rows += [dataclasses.replace(row("a", seed, value), scheme=name) for seed, value in enumerate((0.5, 0.6, 0.7))]
    (loss,) = sharing_losses(rows)
    assert (loss.scheme, loss.devices, loss.recordings) == ("ams", 3, 1)
    assert loss.loss == pytest.approx(0.7 - 0.6)
    assert loss.human_loss == pytest.approx(0.0)
    assert not sharing_losses(rows[3:])
    assert not sharing_losses(rows[:3])
