import hashlib
import os
from pathlib import Path

import pytest

from ams_common.layout import DIGEST_BYTES
from ams_edge import graph_cache
from ams_edge.graph_cache import MAX_GRAPHS, GraphCache


def digest(graph: bytes) -> bytes:
    return hashlib.blake2b(graph, digest_size=DIGEST_BYTES).digest()


def graph(number: int) -> bytes:
    return bytes([number]) * 100


def kept(cache: GraphCache) -> list[bytes]:
    return list(cache.graphs.values())


def test_graphs_outlive_the_process(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path / "graphs")
    assert kept(cache) == []
    for number in (1, 2, 1):
        cache.keep(graph(number))
    assert kept(cache) == [graph(1), graph(2)]
    assert dict(GraphCache(tmp_path / "graphs").graphs) == {digest(graph(number)): graph(number) for number in (1, 2)}


def test_the_newest_are_kept(tmp_path: Path) -> None:
    cache = GraphCache(tmp_path)
    for number in range(MAX_GRAPHS + 3):
        cache.keep(graph(number))
    expected = [graph(number) for number in reversed(range(3, MAX_GRAPHS + 3))]
    assert kept(cache) == expected
    assert len(list(tmp_path.iterdir())) == MAX_GRAPHS
    assert sorted(kept(GraphCache(tmp_path))) == sorted(expected)


def test_all_together_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_cache, "MAX_BYTES", 250)
    cache = GraphCache(tmp_path)
    for number in range(4):
        cache.keep(graph(number))
    assert kept(cache) == [graph(3), graph(2)]
    cache.keep(bytes(251))
    assert kept(cache) == [graph(3), graph(2)]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"something else", bytes([1]) * 99, bytes([1]) * 101])
def test_a_file_that_is_not_what_its_name_says_is_deleted(tmp_path: Path, damage: bytes) -> None:
    GraphCache(tmp_path).keep(graph(1))
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage)
    assert kept(GraphCache(tmp_path)) == []
    assert not list(tmp_path.iterdir())


def test_what_was_left_half_written_is_deleted(tmp_path: Path) -> None:
    GraphCache(tmp_path).keep(graph(1))
    (tmp_path / "left.partial").write_bytes(graph(2))
    assert kept(GraphCache(tmp_path)) == [graph(1)]
    assert len(list(tmp_path.iterdir())) == 1


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / f"{digest(graph(1)).hex()}.onnx"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 2**40)
    assert kept(GraphCache(tmp_path)) == []


def test_a_disk_that_refuses_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    cache = GraphCache(tmp_path)
    cache.keep(graph(1))
    assert kept(cache) == [graph(1)]
    assert "no space left on device" in caplog.text
