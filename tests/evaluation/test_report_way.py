import re

import pytest
from tests.evaluation.demo_results import run_log, swap
from tests.evaluation.outcomes import outcome

from ams_edge.update_way import Way
from ams_eval.metrics import LATENCY_PARTS
from ams_eval.report.way import NAMES, parts_seen, way_chart, way_legend, way_parts, way_table


def cells(html: str) -> list[list[str]]:
    return [re.findall(r"<td>(.*?)</td>", row) for row in html.split("<tr>")[2:]]


def test_edge_and_reports_have_the_same_parts() -> None:
    assert tuple(f"{part}_s" for part in LATENCY_PARTS) == Way._fields
    assert tuple(NAMES) == LATENCY_PARTS


def test_the_parts_of_a_latency_make_up_the_whole() -> None:
    parts = way_parts(run_log().swaps[0])
    assert sum(parts.values()) == pytest.approx(2.0)
    assert list(parts) == [part for part in LATENCY_PARTS if part != "wait"]


def test_a_forgotten_batch_has_no_parts_and_counts_nowhere() -> None:
    assert way_parts(swap(1, 5.0, None)) == {}
    assert way_table([swap(1, 5.0, None), swap(2, 6.0, 2.0)]) == way_table([swap(2, 6.0, 2.0)])


def test_the_table_has_means_shares_and_their_sum() -> None:
    rows = {row[0]: row[1:] for row in cells(way_table(run_log().swaps))}
    assert rows["training"] == ["1.10", "1.10", "44 %"]
    assert rows["download"] == ["0.70", "1.15", "28 %"]
    assert rows["<b>from capture to switch</b>"][:2] == ["2.50", "2.95"]
    assert sum(float(row[0]) for row in rows.values()) == pytest.approx(2 * 2.5)


def test_updates_of_a_replay_and_of_a_demo_are_drawn_alike() -> None:
    for updates in (outcome().updates, run_log().swaps, ()):
        assert way_chart(updates).startswith("<svg")
        assert way_legend(updates).count("<li>") == len(parts_seen(updates))
