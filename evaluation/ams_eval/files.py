"""Files that appear whole or not at all, and arrays in files whose bytes depend on the arrays alone."""

import contextlib
import io
import math
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ams_common.durable import sync_folder
from ams_common.errors import ConfigurationError, system_reason

MOST_BYTES = 4 << 30
"""Most bytes of all arrays of one file together."""
_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
_HEADER_VERSION = (1, 0)


class ArrayKind(NamedTuple):
    """What an array in a file must be."""

    dtype: npt.DTypeLike
    dimensions: int


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that `path` holds all of `data` or what it held before, also after a power cut; make its folder.

    Raises:
        ConfigurationError: it cannot be written.
    """
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        partial = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # mkstemp lets nobody else read
            os.fsync(file.fileno())
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if partial is not None:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
        raise ConfigurationError(f"cannot write {str(path)!r}: {system_reason(error)}") from error


def remove(path: Path) -> None:
    """Remove a file that may not be there.

    Raises:
        ConfigurationError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"cannot remove {str(path)!r}: {system_reason(error)}") from error


def pack_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return arrays as the bytes of a compressed .npz file; equal arrays make equal bytes."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=_TIMESTAMP)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # the same on all systems
            content = io.BytesIO()
            array = np.ascontiguousarray(arrays[name])
            np.lib.format.write_array(content, array, version=_HEADER_VERSION, allow_pickle=False)
            archive.writestr(member, content.getvalue())
    return target.getvalue()


def unpack_arrays(data: bytes, kinds: Mapping[str, ArrayKind]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an .npz file, which must be exactly those of `kinds`.

    Raises:
        ValueError: it is no such file, or the arrays are others or larger than MOST_BYTES together.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            if members.keys() != kinds.keys() or len(archive.infolist()) != len(kinds):
                raise ValueError(f"arrays {', '.join(sorted(members))} where {', '.join(sorted(kinds))} should be")
            if sum(member.file_size for member in members.values()) > MOST_BYTES:
                raise ValueError(f"arrays of more than {MOST_BYTES} bytes")
            return {name: _read_member(archive, members[name], kind) for name, kind in kinds.items()}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise ValueError(f"no readable archive: {str(error).lower()}") from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, kind: ArrayKind) -> npt.NDArray[Any]:
    """Read one array; its header is checked before its numbers are read."""
    with archive.open(member) as file:
        if np.lib.format.read_magic(file) != _HEADER_VERSION:
            raise ValueError(f"unknown version of {member.filename}")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype != np.dtype(kind.dtype) or len(shape) != kind.dimensions or fortran_order or min(shape, default=0) < 0:
            raise ValueError(f"{member.filename} holds {dtype} {list(shape)}")
        size = math.prod(shape) * dtype.itemsize
        if size > member.file_size:
            raise ValueError(f"{member.filename} is cut short")
        numbers = file.read(size + 1)
    if len(numbers) != size:
        raise ValueError(f"{member.filename} holds {len(numbers)} bytes of {size}")
    return np.frombuffer(numbers, dtype).reshape(shape).copy()
