from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ams_common.errors import ConfigurationError
from ams_eval.sweeps.sweep_file import Point, parse_sweep, points, read_sweep, ready_sweeps


def points_of(text: str, **given: Any) -> list[Point]:
    return points(parse_sweep(text, "mine.toml"), given)


def test_every_scheme_meets_every_combination() -> None:
    found = points_of("""
        videos = ["a.mp4", "b"]
        seeds = 3
        schemes = ["none", "paper"]
        steps = 7
        [axes]
        fraction = [0.05, 0.1]
        selection = ["random", "full"]
    """)
    assert [(each.scheme, *each.varied.values()) for each in found] == [
        (scheme, fraction, selection)
        for scheme in ("none", "paper")
        for fraction in (0.05, 0.1)
        for selection in ("random", "full")
    ]
    assert all(each.config.steps == 7 and each.axes == ("fraction", "selection") for each in found)
    assert found[-1].config.fraction == 0.1
    assert found[-1].title == "paper (fraction=0.1, selection=full)"


def test_blocks_add_to_what_stands_above_them() -> None:
    found = points_of("""
        schemes = ["paper"]
        steps = 7
        axes.batch_size = [2, 3]
        [[sweep]]
        axes.fraction = [0.1]
        [[sweep]]
        schemes = ["none", "ams"]
        steps = 8
    """)
    assert [(each.scheme, each.config.steps, each.config.batch_size, each.config.fraction) for each in found] == [
        ("paper", 7, 2, 0.1),
        ("paper", 7, 3, 0.1),
        ("none", 8, 2, 0.05),
        ("none", 8, 3, 0.05),
        ("ams", 8, 2, 0.05),
        ("ams", 8, 3, 0.05),
    ]
    assert found[2].varied == {"steps": 8, "batch_size": 2}
    assert found[2].axes == ("batch_size",)


def test_given_settings_hold_for_all_and_win() -> None:
    found = points_of("schemes = ['ams']\nsteps = 7\naxes.fraction = [0.1, 0.2]", steps=9, batch_size=3)
    assert [(each.config.steps, each.config.batch_size, each.config.fraction) for each in found] == [(9, 3, 0.1), (9, 3, 0.2)]
    assert found[0].config.model_fields_set == {"steps", "batch_size", "fraction"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fraction": 0.1}, "--fraction is what mine.toml varies"),
        ({"optimizer": "adam"}, "--optimizer is what mine.toml varies"),
        ({"student_weights": Path("w")}, "--student-weights are of one student, and mine.toml has several"),
    ],
)
def test_what_a_sweep_varies_is_not_given_beside_it(given: dict[str, Any], message: str) -> None:
    text = "schemes=['ams']\n[[sweep]]\naxes.fraction=[0.1]\noptimizer='sgd'\n[[sweep]]\nstudent='jitnet'"
    with pytest.raises(ConfigurationError, match=message):
        points_of(text, **given)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("schemes = [", "mine.toml: "),
        ("schemes = ['ams']\nfracton = 0.1", "mine.toml: unknown key 'fracton': did you mean fraction"),
        ("schemes = ['ams']\naxes.fracton = [0.1]", "unknown key 'fracton': did you mean fraction"),
        ("schemes = ['ams']\n[[sweep]]\nvideos = ['a']", "unknown key 'videos'"),
        ("schemes = ['ams']\nscheme = 'jit'", "unknown key 'scheme': did you mean schemes"),
        ("schemes = ['ams']\naxes.fraction = []", "mine.toml: axis fraction has no values"),
        ("schemes = ['ams']\naxes.fraction = 0.1", "axis fraction has no values"),
        ("schemes = ['ams']\naxes = 3", "axes is no table"),
        ("schemes = ['ams']\naxes.seed = [1, 2]", "seed is no axis: write seeds = 3"),
        ("schemes = ['ams']\naxes.threads = [1, 2]", "threads is no axis: it changes no result"),
        ("schemes = ['ams']\nsteps = 2\naxes.steps = [1]", "steps is both a setting and an axis"),
        ("steps = 2", "mine.toml: no schemes"),
        ("schemes = 'ams'", "schemes='ams' is no list of texts"),
        ("schemes = ['ams']\nvideos = [1]", r"videos=\[1\] is no list of texts"),
        ("schemes = ['ams']\nseeds = 0", "seeds=0 is no number from 1 to 100"),
        ("schemes = ['ams']\nseeds = true", "seeds=True is no number"),
        ("schemes = ['ams']\nsweep = 1", "sweep is no list of blocks"),
        ("schemes = ['ams']\nsweep = []", "sweep is no list of blocks"),
        ("schemes = ['asm']", "mine.toml: unknown scheme 'asm'"),
        ("schemes = ['ams:stepz=1']", "mine.toml: unknown setting 'stepz=1'"),
        ("schemes = ['ams']\naxes.fraction = [0.1, 7]", "mine.toml: fraction=7: input should be less than or equal to 1"),
        ("schemes = ['ams']\naxes.link = ['5 parsec']", "mine.toml: unknown link '5 parsec'"),
        ("schemes = ['ams']\nbatch_size = 1\nbatch_norm = 'train'", "mine.toml: batch_norm=train needs a batch_size"),
    ],
)
def test_mistakes_are_named_in_a_line(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        points_of(text)
    assert "\n" not in str(caught.value)


def test_too_many_combinations_are_refused_before_they_are_made() -> None:
    axes = "\n".join(f"axes.{name} = {list(range(1, 101))}" for name in ("steps", "batch_size", "loss_stride"))
    with pytest.raises(ConfigurationError, match="1000000 combinations are more than 10000"):
        points_of(f"schemes = ['ams']\n{axes}")


def test_a_file_is_read_and_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("schemes = ['ams']\nvideos = ['a.mp4']\nseeds = 2", encoding="utf-8")
    sweep = read_sweep(str(path))
    assert (sweep.source, sweep.videos, sweep.seeds) == (str(path), (Path("a.mp4"),), 2)
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"mine.toml': it is no text"):
        read_sweep(str(path))
    with pytest.raises(ConfigurationError, match=r"cannot read sweep file '/none.toml': no such file"):
        read_sweep("/none.toml")


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    ready = "ams_figure4, ams_table3, downlink, freshness, jit_ablation, jit_table2"
    with pytest.raises(ConfigurationError, match=f"unknown sweep 'table9': use {ready}"):
        read_sweep("table9")


READY: dict[str, tuple[int, Callable[[Point], bool]]] = {
    "ams_figure4": (18, lambda point: point.config.update_interval_s in (10, 15, 20, 30, 40)),
    "ams_table3": (26, lambda point: point.config.optimizer == ("sgd" if "gauss" in point.config.selection else "adam")),
    "downlink": (41, lambda point: (point.config.downlink_kbps > 0) == (point.scheme == "ams")),
    "freshness": (9, lambda point: point.config.latency == "none" or point.config.update_interval_s == 10),
    "jit_table2": (6, lambda point: point.config.student == "jitnet"),
    "jit_ablation": (13, lambda point: point.config.jit_accuracy == 0.8),
    "uplink": (29, lambda point: (point.config.uplink_kbps > 0) == (point.scheme == "ams")),
}


def test_all_ready_sweeps_are_known_here() -> None:
    assert ready_sweeps().keys() == READY.keys()


@pytest.mark.parametrize("name", READY)
def test_ready_sweeps_are_what_their_tables_are(name: str) -> None:
    found = points(read_sweep(name), {})
    count, holds = READY[name]
    assert len(found) == count
    assert all(map(holds, found))
    assert len({point.title for point in found}) == count
    assert any(point.scheme == "none" for point in found)
