import math
from pathlib import Path
from typing import Any

import pytest

from ams_eval.curves import Curve, Spot
from ams_eval.runner import ExperimentConfig
from ams_eval.sweeps.agenda import Planned
from ams_eval.sweeps.curves import curves_of
from ams_eval.sweeps.jobs import ExperimentJob
from ams_eval.sweeps.rows import Row
from ams_eval.sweeps.sweep_file import Point

CONFIG = ExperimentConfig()
COLUMNS = ("miou_window", "down_kbps")


def point(scheme: str = "ams", *axes: str, **varied: Any) -> Point:
    return Point(scheme=scheme, config=CONFIG, varied=varied, axes=axes)


class Results:
    """Experiments, and what came out of them."""

    def __init__(self) -> None:
        self.planned: list[Planned] = []
        self.runs: dict[str, Row] = {}

    def add(
        self,
        point: Point,
        miou: float | None,
        *,
        recording: str = "quay",
        seed: int = 0,
        kbps: float | None = 10.0,
        name: str | None = None,
    ) -> None:
        """Plan an experiment, which is finished if it has an mIoU; a `name` given twice is one experiment."""
        name = name or str(len(self.planned))
        job = ExperimentJob(
            config=CONFIG, source=Path(), recording=recording, frames=1, out=Path(), scheme=point.scheme, seed=seed, name=name
        )
        self.planned.append(Planned(point=point, job=job))
        if miou is not None:
            self.runs[name] = {"recording": recording, "seed": seed, "miou_window": miou, "down_kbps": kbps}

    def curves(self, *recordings: str) -> list[Curve]:
        return curves_of(self.planned, self.runs, COLUMNS, recordings or ("quay",))


def shape(curves: list[Curve]) -> dict[str, list[str]]:
    return {curve.name: [spot.value for spot in curve.spots] for curve in curves}


def test_curves_run_along_the_last_axis() -> None:
    results = Results()
    results.add(point("none"), 0.2)
    for codec in ("gap-zstd", "delta-rans"):
        for kbps in (5, 25):
            results.add(point("ams", "codec", "downlink_kbps", codec=codec, downlink_kbps=kbps, steps=40), kbps / 100)
    curves = results.curves()
    assert shape(curves) == {
        "none": [""],
        "ams, codec=gap-zstd, steps=40": ["5", "25"],
        "ams, codec=delta-rans, steps=40": ["5", "25"],
    }
    assert curves[1].means("miou_window") == [0.05, 0.25]


def test_curves_that_differ_in_their_axis_alone_say_so() -> None:
    results = Results()
    results.add(point("ams", "update_interval_s", update_interval_s=5.0), 0.5)
    results.add(point("ams", "latency", latency="build=1"), 0.4)
    results.add(point("ams"), 0.45)
    assert shape(results.curves()) == {
        "ams, by update_interval_s": ["5.0"],
        "ams, by latency": ["build=1"],
        "ams": [""],
    }


def test_each_seed_has_the_mean_of_its_recordings() -> None:
    results, where = Results(), point("ams", "fraction", fraction=0.1)
    for seed, values in enumerate([(0.2, 0.6), (0.4, 0.9)]):
        for recording, value in zip(("quay", "pier"), values, strict=True):
            results.add(where, value, recording=recording, seed=seed, kbps=100 * value)
    ((spot,),) = (curve.spots for curve in results.curves("quay", "pier"))
    assert [each["miou_window"] for each in spot.seeds] == pytest.approx([0.4, 0.65])
    assert [each["down_kbps"] for each in spot.seeds] == pytest.approx([40, 65])
    assert spot.mean("miou_window") == pytest.approx(0.525)


def test_a_seed_that_missed_a_recording_does_not_count() -> None:
    results, whole, part = Results(), point("ams", "fraction", fraction=0.1), point("ams", "fraction", fraction=0.2)
    results.add(whole, 0.2, recording="quay", seed=0)
    results.add(whole, 0.6, recording="pier", seed=0)
    results.add(whole, 0.9, recording="pier", seed=1)
    results.add(whole, None, recording="quay", seed=1)
    results.add(part, 0.9, recording="pier", seed=0)
    results.add(part, None, recording="quay", seed=0)
    (curve,) = results.curves("quay", "pier")
    assert shape([curve]) == {"ams": ["0.1"]}
    assert curve.means("miou_window") == pytest.approx([0.4])
    (alone,) = results.curves("pier")
    assert alone.means("miou_window") == pytest.approx([0.75, 0.9]), "it counts where that recording is alone"


def test_a_sweep_of_which_nothing_is_finished_has_no_curves() -> None:
    results = Results()
    results.add(point("ams", "fraction", fraction=0.1), None)
    assert results.curves() == []


def test_an_experiment_of_two_points_is_on_both_curves() -> None:
    results = Results()
    for index, fraction in enumerate((0.1, 0.2)):
        results.add(point("ams", "fraction", fraction=fraction), 0.5, name="the same" if index == 0 else None)
    for index, steps in enumerate((20, 40)):
        results.add(point("ams", "steps", steps=steps), 0.5, name="the same" if index == 0 else None)
    assert shape(results.curves()) == {"ams, by fraction": ["0.1", "0.2"], "ams, by steps": ["20", "40"]}


def test_a_number_that_one_recording_lacks_has_no_mean() -> None:
    results = Results()
    where = point("ams", "fraction", fraction=0.1)
    results.add(where, 0.5, recording="quay", kbps=None)
    results.add(where, 0.7, recording="pier", kbps=30.0)
    (curve,) = results.curves("quay", "pier")
    assert math.isnan(curve.means("down_kbps")[0]), "30 is of one recording, the mIoU of both"
    assert curve.means("miou_window") == pytest.approx([0.6])


def test_values_come_in_the_order_of_their_size_whichever_block_names_them() -> None:
    results = Results()
    for value in (25, 100, 5, 12):
        results.add(point("ams", "downlink_kbps", downlink_kbps=value), 0.5)
    assert shape(results.curves()) == {"ams": ["5", "12", "25", "100"]}
    for word in ("b", "a", "7"):
        results.add(point("jit", "codec", codec=word), 0.5)
    assert shape(results.curves())["jit"] == ["b", "a", "7"], "words stay as they are"


def test_what_a_scheme_does_not_heed_makes_one_point_of_it() -> None:
    results = Results()
    for codec in ("gap-zstd", "delta-rans"):
        for kbps in (5, 25):
            axes = {"codec": codec, "downlink_kbps": kbps}
            results.add(point("none", "codec", "downlink_kbps", **axes), 0.2, name="none")
            results.add(point("ams", "codec", "downlink_kbps", **axes), 0.5)
    results.add(point("none", "steps", steps=10), 0.2, name="none")
    assert shape(results.curves()) == {
        "none": [""],
        "ams, codec=gap-zstd": ["5", "25"],
        "ams, codec=delta-rans": ["5", "25"],
    }
    assert results.curves()[0].title(results.curves()[0].spots[0]) == "none"


def test_of_a_file_its_name_is_told() -> None:
    results = Results()
    for kbps in (5, 12):
        where = point("ams", "downlink_kbps", student_weights="/models/of/mine.safetensors", downlink_kbps=kbps)
        results.add(where, 0.5)
    (curve,) = results.curves()
    assert curve.name == "ams, student_weights=mine.safetensors"
    assert curve.title(curve.spots[1]) == "ams, student_weights=mine.safetensors, downlink_kbps=12"


def test_the_mean_of_a_spot_leaves_out_what_does_not_exist() -> None:
    spot = Spot(value="", seeds=({"x": float("nan")}, {"x": 2.0}))
    assert spot.mean("x") == 2.0
