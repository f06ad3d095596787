import io
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tests.evaluation.html_checks import check_page
from tests.evaluation.outcomes import outcome

from ams_common.errors import ConfigurationError
from ams_eval import command, compare
from ams_eval.bootstrap import Interval
from ams_eval.differences import Agreement, agreements, costs, pair_runs, setting_differences
from ams_eval.outcome import Outcome
from ams_eval.outcome_files import write_outcome
from ams_eval.result_folder import Run


def runs_of(*outcomes: Outcome) -> list[Run]:
    return [Run(folder=Path(), outcome=each, label=each.scheme) for each in outcomes]


def store(out: Path, *outcomes: Outcome) -> Path:
    for index, each in enumerate(outcomes):
        write_outcome(each, out / "runs" / str(index))
    return out


LONG = 140  # frames: 70 s, 7 blocks


def test_runs_are_paired_by_recording_scheme_and_content() -> None:
    first = runs_of(outcome("none"), outcome("ams"), outcome("ams", seed=1), outcome("ams", recording="bay"))
    second = runs_of(
        outcome("ams", seed=2), outcome("full"), replace(outcome("ams", recording="bay"), recording_digest="other")
    )
    found = pair_runs(first, second)
    assert [(pair.recording, pair.scheme, len(pair.first), len(pair.second)) for pair in found.pairs] == [("quay", "ams", 2, 1)]
    assert found.only_first == ("none on quay (abcd)", "ams on bay (abcd)")
    assert found.only_second == ("full on quay (abcd)", "ams on bay (other)")


def test_the_only_scheme_of_each_side_is_compared() -> None:
    (pair,) = pair_runs(runs_of(outcome("ams")), runs_of(outcome("jit"))).pairs
    assert pair.scheme == "ams → jit"


def test_nothing_in_common_is_said() -> None:
    with pytest.raises(
        ConfigurationError, match=r"nothing to compare: one folder has ams on quay \(abcd\), the other ams on bay"
    ):
        pair_runs(runs_of(outcome()), runs_of(outcome(recording="bay")))


def test_agreement_is_of_the_summed_confusion_with_an_interval() -> None:
    one, two = outcome(frames=LONG, share=0.8), outcome(frames=LONG, share=0.9)
    rows = agreements(pair_runs(runs_of(one), runs_of(two)).pairs)
    assert [(row.reference, row.blocks) for row in rows] == [("teacher", 7), ("human", 7)]
    row = rows[0]
    assert (row.first, row.second) == (one.teacher.miou(), two.teacher.miou())
    assert row.interval.low < row.second - row.first < row.interval.high
    assert compare.verdict(row) == "B is better"
    assert rows == agreements(pair_runs(runs_of(one), runs_of(two)).pairs)
    assert rows != agreements(pair_runs(runs_of(one), runs_of(two)).pairs, seed=1)


def test_several_recordings_have_a_mean_too() -> None:
    sides = [
        runs_of(*(outcome(frames=LONG, share=share, recording=each, human=False) for each in "ab")) for share in (0.8, 0.9)
    ]
    rows = agreements(pair_runs(*sides).pairs)
    assert [row.recording for row in rows] == ["a", "b", "mean of 2"]
    assert rows[2].second == pytest.approx((rows[0].second + rows[1].second) / 2)
    assert rows[2].blocks == 14
    assert rows[2].interval.low > 0


@pytest.mark.parametrize("other", [outcome(frames=20), outcome(frames=LONG)], ids=["few blocks", "other frames"])
def test_no_interval_where_there_is_too_little(other: Outcome) -> None:
    row = agreements(pair_runs(runs_of(outcome(frames=20, share=0.7)), runs_of(other)).pairs)[0]
    assert math.isnan(row.interval.low)
    assert compare.verdict(row) == "too little to tell"


@pytest.mark.parametrize(
    ("interval", "told"),
    [
        ((0.01, 0.2), "B is better"),
        ((-0.2, -0.01), "A is better"),
        ((-0.1, 0.2), "not clear"),
        ((math.nan, math.nan), "too little"),
    ],
)
def test_the_verdict_is_what_the_interval_allows(interval: tuple[float, float], told: str) -> None:
    row = Agreement("quay", "ams", "teacher", 0.5, 0.6, Interval(*interval), 9)
    assert compare.verdict(row).startswith(told)
    assert compare.verdict(row._replace(second=0.5)) == "equal"


def test_what_both_sides_cost() -> None:
    pairs = pair_runs(runs_of(outcome()), runs_of(replace(outcome(), transfers=outcome().transfers[1:]))).pairs
    found = {row.name: (row.first, row.second) for row in costs(pairs)}
    assert found["first_model_kb"] == (50.0, 0.0)
    assert found["updates"] == (3, 3)
    assert costs(pair_runs(runs_of(outcome("none")), runs_of(outcome("none"))).pairs) == []


def test_settings_and_seeds_that_differ() -> None:
    first = runs_of(outcome(settings={"fraction": 0.05}), outcome(seed=1, settings={"fraction": 0.05}))
    second = runs_of(outcome(settings={"fraction": 0.1, "link": "1mbit"}))
    rows = {(row.name, row.first, row.second) for row in setting_differences(pair_runs(first, second).pairs)}
    assert rows == {("fraction", "0.05", "0.1"), ("link", "–", "1mbit"), ("seed", "0, 1", "0")}
    assert setting_differences(pair_runs(second, second).pairs) == []


def test_the_command_tells_all_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    first = store(tmp_path / "a", outcome(frames=LONG, share=0.8), outcome("none", frames=LONG))
    second = store(tmp_path / "b", outcome(frames=LONG, settings={"note": "[bold]<i>"}))
    page = tmp_path / "page.html"
    assert command.run(["compare", str(first), str(second), "--html", str(page)]) == 0
    shown = capsys.readouterr().out
    for told in ("B is better", "downlink, kbit/s", "[bold]<i>", "none on quay (abcd)", "bootstrap"):
        assert told in shown
    text = check_page(page.read_text(encoding="utf-8"), pictures=False).text
    assert "B is better" in text
    assert "[bold]<i>" in text


def test_two_results_that_are_the_same(tmp_path: Path) -> None:
    out = store(tmp_path, outcome())
    findings = compare.compare(out, out / "runs" / "0")
    assert all(compare.verdict(row) == "equal" for row in findings.agreements)
    assert findings.settings == []
    check_page(compare.render(findings, out, out), pictures=False)


def test_a_folder_without_results_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "table_console", lambda: Console(file=io.StringIO()))
    with pytest.raises(ConfigurationError, match="no finished runs"):
        command.run(["compare", str(tmp_path), str(tmp_path)])
