import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ams_common.errors import ConfigurationError
from ams_eval import files
from ams_eval.files import ArrayKind, pack_arrays, unpack_arrays, write_atomically

KINDS = {"a": ArrayKind(np.int64, 2), "b": ArrayKind(np.float64, 1)}
ARRAYS = {"b": np.array([1.5, np.nan]), "a": np.arange(6).reshape(2, 3)}


def archive(**members: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as out:
        for name, content in members.items():
            out.writestr(f"{name}.npy", content)
    return target.getvalue()


def npy(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]], *, shape: str | None = None) -> bytes:
    target = io.BytesIO()
    np.save(target, array)
    content = target.getvalue()
    return content.replace(str(array.shape).encode().ljust(len(shape or "")), shape.encode()) if shape else content


def test_arrays_come_back_and_numpy_can_read_them_too(tmp_path: Path) -> None:
    data = pack_arrays(ARRAYS)
    assert data == pack_arrays(dict(reversed(ARRAYS.items())))
    back = unpack_arrays(data, KINDS)
    (tmp_path / "x.npz").write_bytes(data)
    with np.load(tmp_path / "x.npz", allow_pickle=False) as loaded:
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(back[name], array)
            np.testing.assert_array_equal(loaded[name], array)
    assert back["a"].flags.writeable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no readable archive"),
        (pack_arrays({"a": ARRAYS["a"]}), "arrays a where a, b should be"),
        (pack_arrays(ARRAYS | {"b": ARRAYS["a"]}), "b.npy holds int64"),
        (pack_arrays(ARRAYS | {"a": ARRAYS["a"][0]}), "a.npy holds int64"),
        (archive(a=npy(ARRAYS["a"]), b=npy(np.array([{}], object))), "b.npy holds object"),
        (archive(a=npy(np.asfortranarray(ARRAYS["a"])), b=npy(ARRAYS["b"])), "a.npy holds"),
        (archive(a=npy(ARRAYS["a"]), b=b"\x93NUMPY\x09\x00"), "version"),
        (archive(a=npy(ARRAYS["a"]), b=npy(ARRAYS["b"]) + b"more"), "holds 17 bytes of 16"),
        (archive(a=npy(ARRAYS["a"], shape="(9, 9)"), b=npy(ARRAYS["b"])), "cut short"),
    ],
)
def test_anything_else_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unpack_arrays(content, KINDS)


def test_sizes_are_known_before_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_BYTES", 100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        unpack_arrays(pack_arrays(ARRAYS), KINDS)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for content in (b"one", b"two"):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ConfigurationError, match="file': no space left on device"):
        write_atomically(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"
