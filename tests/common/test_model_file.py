import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.protocol_support import GRAPH, LAYOUT, MANIFEST, weights_of

from ams_common.errors import AmsError, ModelError
from ams_common.layout import weights_digest
from ams_common.model_file import StoredModel, read_model, write_model
from ams_common.wire_manifest import manifest_to_bytes


def model(version: int = 3) -> StoredModel:
    vector = weights_of(version)
    return StoredModel(manifest=MANIFEST, graph=GRAPH, vector=vector, version=version, weights_digest=weights_digest(vector))


def signed(body: bytes) -> bytes:
    return body + hashlib.blake2b(body, digest_size=16).digest()


def test_a_model_comes_back_exactly(tmp_path: Path) -> None:
    write_model(tmp_path / "model.ams", model())
    read = read_model(tmp_path / "model.ams")
    assert (read.manifest, read.graph, read.version, read.weights_digest) == (MANIFEST, GRAPH, 3, model().weights_digest)
    np.testing.assert_array_equal(read.vector, weights_of(3))
    assert [path.name for path in tmp_path.iterdir()] == ["model.ams"]


def test_the_bytes_are_as_documented(tmp_path: Path) -> None:
    write_model(tmp_path / "model.ams", model())
    manifest = manifest_to_bytes(MANIFEST)
    header = b"AMSMODEL" + struct.pack("<IIQQQ", 1, len(manifest), len(GRAPH), LAYOUT.size, 3)
    expected = signed(header + manifest + GRAPH + weights_of(3).astype("<f4").tobytes())
    assert (tmp_path / "model.ams").read_bytes() == expected


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_truncated_and_lengthened_files_are_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "model.ams"
    write_model(path, model())
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    match data.draw(st.sampled_from(["flip", "cut", "more"])):
        case "flip":
            content[position] ^= data.draw(st.integers(1, 255))
        case "cut":
            del content[position:]
        case _:
            content += bytes(1 + position % 50)
    path.write_bytes(content)
    with pytest.raises(AmsError):
        read_model(path)


@given(numbers=st.tuples(*[st.integers(0, 2**32 - 1)] * 2, *[st.integers(0, 2**64 - 1)] * 3))
def test_lengths_that_lie_are_refused(tmp_path_factory: pytest.TempPathFactory, numbers: tuple[int, ...]) -> None:
    path = tmp_path_factory.getbasetemp() / "lies.ams"
    path.write_bytes(signed(b"AMSMODEL" + struct.pack("<IIQQQ", *numbers) + bytes(100)))
    with pytest.raises(AmsError):
        read_model(path)


def test_as_many_weights_as_the_manifest_names(tmp_path: Path) -> None:
    vector = weights_of(1)[:-1]
    short = StoredModel(manifest=MANIFEST, graph=GRAPH, vector=vector, version=1, weights_digest=weights_digest(vector))
    write_model(tmp_path / "model.ams", short)
    with pytest.raises(ModelError, match=f"file has {LAYOUT.size - 1} weights, its manifest names {LAYOUT.size}"):
        read_model(tmp_path / "model.ams")


def test_a_disk_that_refuses_keeps_what_was_there_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.ams"
    write_model(path, model(version=3))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_model(path, model(version=4))
    assert [file.name for file in tmp_path.iterdir()] == ["model.ams"]
    assert read_model(path).version == 3
