"""Labels of a teacher kept on disk, so that no picture is labelled twice.

A file holds the labels of one picture. Its place says which: FOLDER/teacher/ab/abcdef…, where `teacher` is a digest of the
teacher's identity and abcdef… one of the picture's size and pixels. Its content:

    8   magic "AMSLABEL"
    16  BLAKE2b of the labels
    .   the labels, uint8 [H, W] at the size of the picture, as one zstd frame

A file appears whole or not at all, so any number of processes may share a folder. One that is damaged counts as not there.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ams_common.classes import IGNORE, UInt8Array
from ams_common.compression import zstd_compress, zstd_decompress
from ams_common.errors import AmsError, CodecError
from ams_common.settings import PartConfig, home_expanded
from ams_eval.files import write_atomically
from ams_eval.wrapped_teacher import WrappedTeacher
from ams_server.teachers.base import Teacher
from ams_server.teachers.precomputed import PrecomputedTeacher

_MAGIC = b"AMSLABEL"
_DIGEST_BYTES = 16
_LEVEL = 3

_log = logging.getLogger(__name__)


class LabelCacheConfig(PartConfig):
    """Where a teacher's labels are kept."""

    label_cache: str = ""
    """Folder in which the teacher's labels are kept for later runs, or none; by default adaptive-model-streaming/labels in the
    user's folder for caches."""


class CachedTeacher(WrappedTeacher):
    """A Teacher that asks another one only about pictures that it has not seen before.

    Labels that cannot be written cost one warning; the folder is then only read.
    """

    def __init__(self, teacher: Teacher, folder: Path) -> None:
        """Keep the labels of `teacher`, which must depend on the picture alone, in `folder`."""
        super().__init__(teacher)
        self._folder = folder / hashlib.blake2b(teacher.identity.encode(), digest_size=_DIGEST_BYTES).hexdigest()
        self._writable = True
        self.hits = 0
        """Pictures whose labels were on disk."""
        self.misses = 0
        """Pictures that the teacher had to label."""

    def label(self, images: UInt8Array, capture_times_s: Sequence[float]) -> UInt8Array:
        """Return labels, uint8 [N, H, W], of RGB frames, uint8 [N, H, W, 3].

        Raises:
            AmsError: the teacher cannot label a frame.
        """
        labels = np.empty(images.shape[:3], np.uint8)
        paths = [self._path(image) for image in images]
        missing = []
        for index, path in enumerate(paths):
            found = self._read(path, images.shape[1:3])
            if found is None:
                missing.append(index)
            else:
                labels[index] = found
        self.hits += len(paths) - len(missing)
        self.misses += len(missing)
        if missing:
            labels[missing] = self._teacher.label(images[missing], [capture_times_s[index] for index in missing])
        for index in missing:
            self._write(paths[index], labels[index])
        return labels

    def _path(self, image: UInt8Array) -> Path:
        digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=_DIGEST_BYTES)
        digest.update(np.ascontiguousarray(image).data)
        name = digest.hexdigest()
        return self._folder / name[:2] / name

    def _read(self, path: Path, shape: tuple[int, ...]) -> UInt8Array | None:
        """Return the labels in a file, uint8 `shape`; None where there are none that can be believed."""
        try:
            labels = _unpack(path.read_bytes(), shape)
        except FileNotFoundError:
            return None
        except (OSError, CodecError) as error:
            _log.info("labels in %s are made anew: %s", path, error)
            return None
        return labels if np.all((labels < len(self.classes)) | (labels == IGNORE)) else None

    def _write(self, path: Path, labels: UInt8Array) -> None:
        if not self._writable:
            return
        try:
            write_atomically(path, _pack(labels))
        except AmsError as error:
            self._writable = False
            _log.warning("the teacher's labels are no longer kept: %s; --label-cache names another folder, or none", error)


def cached_teacher(teacher: Teacher, config: LabelCacheConfig) -> Teacher:
    """Return `teacher` with the cache that `config` asks for.

    A teacher that looks labels up by capture time needs none, and its labels do not depend on the picture: it stays as it is.
    """
    if config.label_cache == "none" or isinstance(teacher, PrecomputedTeacher):
        return teacher
    return CachedTeacher(teacher, home_expanded(Path(config.label_cache)) if config.label_cache else default_cache_folder())


def default_cache_folder() -> Path:
    """Return where labels are kept unless told otherwise: in XDG_CACHE_HOME, or else in ~/.cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    caches = Path(given) if Path(given).is_absolute() else Path.home() / ".cache"
    return caches / "adaptive-model-streaming" / "labels"


def _pack(labels: UInt8Array) -> bytes:
    content = np.ascontiguousarray(labels).tobytes()
    return _MAGIC + hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest() + zstd_compress(content, _LEVEL)


def _unpack(data: bytes, shape: tuple[int, ...]) -> UInt8Array:
    """Return labels of `shape`; raise CodecError if the bytes hold no such labels."""
    start = len(_MAGIC) + _DIGEST_BYTES
    magic, digest = data[: len(_MAGIC)], data[len(_MAGIC) : start]
    if magic != _MAGIC:
        raise CodecError(f"file starts with {magic!r}")
    height, width = shape
    content = zstd_decompress(data[start:], height * width)
    if hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest() != digest:
        raise CodecError("digest of the labels does not match")
    return np.frombuffer(content, np.uint8).reshape(shape)
