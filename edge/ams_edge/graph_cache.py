"""Graphs on disk by their digests, so that none comes over the network twice."""

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from ams_common.errors import system_reason
from ams_common.layout import DIGEST_BYTES

MAX_GRAPHS = 8
MAX_BYTES = 16 * 2**20
"""All graphs together, on disk and in memory; a larger one is not kept."""
_SUFFIX = ".onnx"

_log = logging.getLogger(__name__)


class GraphCache:
    """The newest graphs of one folder, each in a file of its own that is named by its digest."""

    def __init__(self, folder: Path) -> None:
        """Read what is in `folder`, which need not exist; files that are not what their name says are deleted."""
        self._folder = folder
        self._graphs: Mapping[bytes, bytes] = {}
        try:
            files = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda file: file.stat().st_mtime_ns)
            for file in files:
                self._graphs = _bounded(_believed(file), self._graphs)
            self._delete_others()
        except OSError as error:
            _log.warning("cannot read the graphs in %s: %s", folder, system_reason(error))

    @property
    def graphs(self) -> Mapping[bytes, bytes]:
        """Serialised ONNX graphs by their digests, newest first. May be read from any thread."""
        return self._graphs

    def keep(self, graph: bytes) -> None:
        """Keep `graph` as the newest; a disk that refuses costs a log line."""
        digest = _digest(graph)
        known = digest in self._graphs
        self._graphs = _bounded(graph, self._graphs)
        if known or digest not in self._graphs:
            return
        try:
            self._folder.mkdir(exist_ok=True)
            partial = self._path(digest).with_suffix(".partial")
            with partial.open("wb") as file:
                file.write(graph)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path(digest))
            self._delete_others()
        except OSError as error:
            _log.warning("cannot keep a graph in %s: %s", self._folder, system_reason(error))

    def _path(self, digest: bytes) -> Path:
        return self._folder / f"{digest.hex()}{_SUFFIX}"

    def _delete_others(self) -> None:
        kept = {self._path(digest).name for digest in self._graphs}
        for file in self._folder.glob("*"):
            if file.name not in kept:
                file.unlink()


def _believed(file: Path) -> bytes:
    """Return the graph in `file`; nothing where it is too large or not what its name says."""
    if file.stat().st_size > MAX_BYTES:
        return b""
    graph = file.read_bytes()
    return graph if _digest(graph).hex() == file.stem else b""


def _bounded(graph: bytes, others: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """Return the graphs by digest with `graph` as the first, and of `others` as many as there is room for."""
    kept: dict[bytes, bytes] = {}
    size = 0
    for digest, each in {_digest(graph): graph, **others}.items():
        if each and size + len(each) <= MAX_BYTES and len(kept) < MAX_GRAPHS:
            kept[digest] = each
            size += len(each)
    return kept


def _digest(graph: bytes) -> bytes:
    return hashlib.blake2b(graph, digest_size=DIGEST_BYTES).digest()
