"""Running the student: a picture in, a label map out.

Shapes: H, W the model's input size, C its classes, h and w the size of its logits (smaller than H and W).
"""

import math
from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from ams_common.alignment import has_corner_logits
from ams_common.classes import IGNORE
from ams_common.errors import ModelError
from ams_common.layout import Float32Array
from ams_common.messages import ModelManifest
from ams_edge.providers import Backend, Session

UInt8Array = npt.NDArray[np.uint8]
INPUT = "image"
OUTPUT = "logits"
MAX_SIDE = 8192
_ALIGNMENT_BYTES = 64
_PROBE_SEED = 1


class Model:
    """A student with one set of weights. Used by one thread at a time; different models may run at once."""

    def __init__(
        self, manifest: ModelManifest, backend: Backend, session: Session, weights: Mapping[str, Float32Array] | None = None
    ) -> None:
        """Run `session`, whose inputs are the picture and, if any, `weights`; `build_model` is the usual way to get one.

        Raises:
            ModelError: the session's inputs or outputs are not what the manifest says.
        """
        _check_manifest(manifest)
        self.manifest = manifest
        self.backend = backend
        self._session = session
        self._weights = dict(weights or {})
        height, width = _logits_size(session, manifest, self._weights)
        self._planes = np.zeros((3, manifest.height, manifest.width), np.uint8)
        self._input = aligned((1, 3, manifest.height, manifest.width))
        self._logits = aligned((1, len(manifest.classes), height, width))
        self._head = LabelHead(manifest.width, manifest.height)
        self._tables = _normalisation(manifest)
        self._binding = self._bind() if backend.reads_host_memory else None

    def infer(self, image: UInt8Array, size: tuple[int, int] | None = None) -> UInt8Array:
        """Return the label of every pixel, a new uint8 [H, W].

        Args:
            image: uint8 RGB [H, W, 3].
            size: (width, height) of the labels in pixels instead of the model's.

        Raises:
            ModelError: the picture has another size or type than the model needs, or the provider fails.
        """
        self._run(image)
        width, height = size or (self.manifest.width, self.manifest.height)
        return self._head.labels(self._logits[0], width, height)

    def logits(self, image: UInt8Array) -> Float32Array:
        """Return the logits of uint8 RGB [H, W, 3], a new float32 [C, h, w].

        Raises:
            ModelError: as `infer`.
        """
        self._run(image)
        logits: Float32Array = self._logits[0].copy()
        return logits

    def warm(self) -> UInt8Array:
        """Run once, so that the first frame is as fast as the others; return the labels of the picture `probe_image`.

        Raises:
            ModelError: the logits are not finite, or the provider fails.
        """
        labels = self.infer(probe_image(self.manifest.width, self.manifest.height))
        if not np.isfinite(self._logits).all():
            raise ModelError(f"model {self.manifest.student!r} gives logits that are not finite")
        return labels

    def _run(self, image: UInt8Array) -> None:
        self._normalise(image)
        try:
            if self._binding is not None:
                self._session.run_with_iobinding(self._binding)
            else:
                np.copyto(self._logits, np.asarray(self._session.run([OUTPUT], {INPUT: self._input})[0]))
        except Exception as error:  # ONNX Runtime's exceptions have no common base below Exception
            raise ModelError(f"ONNX Runtime fails on {self.backend.provider}: {error}") from error

    def _normalise(self, image: UInt8Array) -> None:
        """Write (value - mean) / std, correctly rounded, to the planes of the input."""
        expected = (self.manifest.height, self.manifest.width, 3)
        if image.shape != expected or image.dtype != np.uint8:
            raise ModelError(f"picture is {image.dtype} {image.shape}, the model needs uint8 {expected}")
        cv2.split(np.ascontiguousarray(image), list(self._planes))
        for plane, table, target in zip(self._planes, self._tables, self._input[0], strict=True):
            cv2.LUT(plane, table, target)

    def _bind(self) -> object:
        """Tie the session to the input and output buffers: nothing is copied or allocated for a frame."""
        binding = self._session.io_binding()
        for name, array in ((INPUT, self._input), *self._weights.items()):
            binding.bind_input(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        binding.bind_output(OUTPUT, "cpu", 0, np.float32, self._logits.shape, self._logits.ctypes.data)
        return binding


def build_model(manifest: ModelManifest, graph: bytes, vector: Float32Array, backend: Backend) -> Model:
    """Build a session of `graph` with the weights of `vector`, float32 [P], which is copied.

    Raises:
        ModelError: manifest, graph and weights do not fit together, a weight is not finite, or `backend` refuses them.
    """
    if not np.isfinite(vector).all():
        raise ModelError(f"parameter {int(np.flatnonzero(~np.isfinite(vector))[0])} of the weights is not finite")
    initialisers = {tensor.name: view for tensor, view in manifest.layout.views(vector)}
    return Model(manifest, backend, backend.open_session(graph, initialisers))


class LabelHead:
    """Turns low-resolution logits into labels: bilinear upsampling from where `ams_common.alignment` has them, and arg max."""

    def __init__(self, width: int, height: int) -> None:
        """Prepare for pictures of `width` x `height` pixels; labels of other sizes get buffers when they first come."""
        self._picture_size = (width, height)
        self._make_buffers(width, height)

    def labels(self, logits: Float32Array, width: int, height: int) -> UInt8Array:
        """Return the class of the largest logit at every pixel, a new uint8 [height, width]; of equals the first.

        Logits that are not numbers everywhere give no class, IGNORE.

        Args:
            logits: float32 [C, h, w].
            width: of the labels, in pixels.
            height: of the labels, in pixels.
        """
        if self._best.shape != (height, width):
            self._make_buffers(width, height)
        winners = possible_winners(logits)
        if not winners:
            return np.full((height, width), IGNORE, np.uint8)
        first, *others = winners
        self._upsample(logits[first], self._best)
        labels = np.full((height, width), first, np.uint8)
        for label in others:
            self._upsample(logits[label], self._current)
            cv2.compare(self._current, self._best, cv2.CMP_GT, self._wins)
            cv2.max(self._best, self._current, self._best)
            # a winner's label is larger than any before it
            np.bitwise_and(self._wins, np.uint8(label), out=self._wins)
            np.maximum(labels, self._wins, out=labels)
        return labels

    def _upsample(self, logits: Float32Array, target: Float32Array) -> None:
        height, width = target.shape
        if not has_corner_logits(*self._picture_size):
            cv2.resize(logits, (width, height), target)
            return
        (across, left), (down, top) = (
            _corner_positions(low, picture, size)
            for low, picture, size in zip(logits.shape[::-1], self._picture_size, (width, height), strict=True)
        )
        positions = np.array([[across, 0, left], [0, down, top]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cv2.warpAffine(logits, positions, (width, height), target, flags, cv2.BORDER_REPLICATE)

    def _make_buffers(self, width: int, height: int) -> None:
        self._best, self._current = aligned((2, height, width))
        self._wins = np.zeros((height, width), np.uint8)


def _corner_positions(logits: int, picture: int, labels: int) -> tuple[float, float]:
    """Return (a, b): along one side, label i lies at position a * i + b among the logits, whose ends are the picture's.

    Pixel x of the picture covers the same part of the side as label (x + 0.5) * labels / picture - 0.5.
    """
    stride = (picture - 1) / (logits - 1) if logits > 1 else math.inf
    scale = picture / labels
    return scale / stride, (0.5 * scale - 0.5) / stride


def possible_winners(logits: Float32Array) -> list[int]:
    """Return, in order, the classes that may be the largest somewhere after bilinear upsampling of float32 [C, h, w].

    A pixel's value lies between the least and the greatest of the four logits around it. A class whose greatest is below the
    least of another class around every pixel cannot win; in a street scene that is half of 19 classes.
    """
    greatest = _corners(logits, np.maximum)
    least = _corners(logits, np.minimum)
    contends = (greatest >= least.max(axis=0)).any(axis=(1, 2))
    return [int(label) for label in np.flatnonzero(contends)]


def _corners(logits: Float32Array, extreme: np.ufunc) -> Float32Array:
    """Take the extreme of each 2 x 2 neighbours; a side of one stays."""
    for axis in (1, 2):
        if logits.shape[axis] > 1:
            size = logits.shape[axis]
            logits = extreme(logits.take(range(size - 1), axis), logits.take(range(1, size), axis))
    return logits


def probe_image(width: int, height: int) -> UInt8Array:
    """Return the same smooth coloured picture every time, uint8 RGB [height, width, 3]."""
    coarse = np.random.default_rng(_PROBE_SEED).integers(0, 256, (9, 16, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def _check_manifest(manifest: ModelManifest) -> None:
    if not (1 <= manifest.width <= MAX_SIDE and 1 <= manifest.height <= MAX_SIDE):
        raise ModelError(f"model input of {manifest.width}x{manifest.height} pixels: sides of 1 to {MAX_SIDE} are possible")
    if not np.isfinite((*manifest.mean, *manifest.std)).all() or 0 in manifest.std:
        raise ModelError(f"cannot normalise pictures by mean {manifest.mean} and standard deviation {manifest.std}")


def _logits_size(session: Session, manifest: ModelManifest, weights: Mapping[str, Float32Array]) -> tuple[int, int]:
    """Return (h, w) of the session's logits.

    Raises:
        ModelError: the graph's input or output is not what the manifest says.
    """
    inputs = {each.name: tuple(each.shape) for each in session.get_inputs()}
    expected = {INPUT: (1, 3, manifest.height, manifest.width), **{name: array.shape for name, array in weights.items()}}
    if inputs != expected:
        raise ModelError(f"graph takes {inputs}, the manifest says {expected}")
    shape = next((tuple(each.shape) for each in session.get_outputs() if each.name == OUTPUT), None)
    if shape is None or len(shape) != 4 or shape[:2] != (1, len(manifest.classes)):
        raise ModelError(f"graph gives logits of shape {shape}, the manifest says {len(manifest.classes)} classes")
    height, width = shape[2:]
    if not (isinstance(height, int) and isinstance(width, int) and 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise ModelError(f"graph gives logits of shape {shape}, they need a fixed size")
    return height, width


def _normalisation(manifest: ModelManifest) -> list[Float32Array]:
    """Return for each channel the normalised value of every byte, float32 [256]."""
    values = np.arange(256)
    channels = zip(manifest.mean, manifest.std, strict=True)
    return [((values - mean) / std).astype(np.float32) for mean, std in channels]


def aligned(shape: tuple[int, ...]) -> Float32Array:
    """Return float32 zeros of `shape` that start on a cache line: kernels are up to 8 % faster on such buffers.

    The memory is touched here, by whoever builds a model, and not by its first frame.
    """
    size = 4 * math.prod(shape)
    raw = np.empty(size + _ALIGNMENT_BYTES, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT_BYTES
    raw.fill(0)
    return raw[start : start + size].view(np.float32).reshape(shape)
