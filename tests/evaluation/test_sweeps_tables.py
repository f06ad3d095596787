from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ams_eval.runner import ExperimentConfig
from ams_eval.sweeps.agenda import Planned
from ams_eval.sweeps.jobs import ExperimentJob
from ams_eval.sweeps.sweep_file import Point
from ams_eval.sweeps.tables import draw_axes, draw_points

CONFIG = ExperimentConfig()


def planned(
    name: str, scheme: str, recording: str = "quay", *, axes: tuple[str, ...] = ("fraction",), **varied: Any
) -> Planned:
    job = ExperimentJob(
        config=CONFIG, source=Path(), recording=recording, frames=1, out=Path(), scheme=scheme, seed=0, name=name
    )
    return Planned(point=Point(scheme=scheme, config=CONFIG, varied=varied, axes=axes), job=job)


def row(miou: float | None, *, recording: str = "quay", human: float | None = None, down: float = 10.0) -> dict[str, Any]:
    return {
        "recording": recording,
        "miou_window": miou,
        "human_miou_window": human,
        "human_frames": 0 if human is None else 5,
        "up_kbps": 150.4,
        "down_kbps": down,
        "updates": 4,
        "model_age_mean_s": None,
    }


def cells(table: Table) -> list[list[str]]:
    """Return headings and rows."""
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return [line.split() for line in capture.get().splitlines() if line.strip() and "─" not in line]


def test_points_show_means_over_recordings_of_means_over_seeds() -> None:
    plan = [
        *(planned(name, "ams", fraction=0.1) for name in ("a", "b")),
        planned("c", "ams", "pier", fraction=0.1),
        planned("d", "none", axes=()),
    ]
    runs = {"a": row(0.5), "b": row(0.7), "c": row(0.8, recording="pier", down=30.0), "other": row(0.1)}
    assert cells(draw_points(plan, runs)) == [
        ["scheme", "fraction", "teacher", "up", "down", "updates", "age", "runs"],
        ["ams", "0.1", "70.0", "150", "20.0", "4", "–", "3"],
        ["none", "–", "–", "–", "–", "–", "0"],
    ]


def test_an_experiment_of_two_points_counts_for_both() -> None:
    plan = [planned("a", "none", fraction=0.1), planned("a", "none", fraction=0.2)]
    assert [line[1:3] + line[-1:] for line in cells(draw_points(plan, {"a": row(0.5)}))[1:]] == [
        ["0.1", "50.0", "1"],
        ["0.2", "50.0", "1"],
    ]


def test_people_have_a_column_where_there_are_any() -> None:
    plan = [planned("a", "ams", fraction=0.1), planned("b", "ams", fraction=0.2)]
    heads, first, second = cells(draw_points(plan, {"a": row(0.5, human=0.4), "b": row(0.6)}))
    assert heads[2:4] == ["teacher", "human"]
    assert (first[2:4], second[2:4]) == (["50.0", "40.0"], ["60.0", "–"])


def test_each_axis_has_a_table_in_which_all_else_is_averaged() -> None:
    axes = ("fraction", "steps")
    plan = [planned(f"{f} {s}", "ams", axes=axes, fraction=f, steps=s) for f in (0.1, 0.2) for s in (2, 4)]
    plan.append(planned("sgd", "ams", axes=("fraction",), fraction=0.2, optimizer="sgd"))
    values = (0.1, 0.3, 0.5, 0.7, 0.9)
    tables = draw_axes(plan, {each.job.name: row(value) for each, value in zip(plan, values, strict=True)})
    shown = [[[line[0], line[1], line[2], line[-1]] for line in cells(table)] for table in tables]
    assert shown == [
        [["scheme", "fraction", "teacher", "runs"], ["ams", "0.1", "20.0", "2"], ["ams", "0.2", "70.0", "3"]],
        [["scheme", "steps", "teacher", "runs"], ["ams", "2", "30.0", "2"], ["ams", "4", "50.0", "2"]],
    ]


def test_a_single_axis_needs_no_table_of_its_own() -> None:
    assert draw_axes([planned("a", "ams", fraction=0.1)], {}) == []
