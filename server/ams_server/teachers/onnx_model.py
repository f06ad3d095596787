"""Any ONNX segmentation model as a teacher; what it takes and gives is read from the file and from one run on a black frame."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]  # it ships no types
import torch
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from torch import Tensor

from ams_common.classes import ClassSet
from ams_common.errors import ModelError, first_line
from ams_server.teachers.network import RGB, SIDE_MULTIPLE, InputSize, NetworkTeacher, file_digest, identity_of

_ELEMENT_TYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}


def onnx_teacher(path: Path, classes: ClassSet, size: InputSize, mean: RGB, std: RGB, device: torch.device) -> NetworkTeacher:
    """Return the teacher of an ONNX file.

    The model takes one image tensor, NCHW or NHWC, of float32, float16 or (normalised inside, so that `mean` and `std` should
    be 0 and 1) uint8, of any or of a fixed size, which then wins over `size`. Its first output is either logits with a channel
    for each class, before or after the sides, or integer labels.

    Raises:
        ModelError: the file cannot be read, or is no such model.
    """
    if not path.is_file():
        raise ModelError(f"teacher model {str(path)!r} does not exist")
    try:
        session = _session(path, device)
        layout = _InputLayout.of(session)
        seen = InputSize(width=layout.width or size.width, height=layout.height or size.height)
        infer = _Inference(session, layout, len(classes))
        infer(torch.zeros(1, 3, *seen.of_frame(8 * SIDE_MULTIPLE, 16 * SIDE_MULTIPLE)))
        identity = identity_of("onnx", classes.names, seen, mean, std, *_file_digests(path))
    except ModelError as error:
        raise ModelError(f"teacher model {str(path)!r}: {error}") from error
    except Exception as error:  # ONNX Runtime has no public base class for its exceptions
        raise ModelError(f"teacher model {str(path)!r} cannot be run: {first_line(error)}") from error
    return NetworkTeacher(
        classes=classes,
        identity=identity,
        infer=infer,
        size=seen,
        device=torch.device("cpu"),
        mean=mean,
        std=std,
        fixed_batch=layout.count,
    )


@dataclass(frozen=True, kw_only=True)
class _InputLayout:
    """What the image input looks like; a side or count of 0 is free."""

    name: str
    element: type[np.generic]
    channels_last: bool
    count: int
    width: int
    height: int

    @staticmethod
    def of(session: ort.InferenceSession) -> "_InputLayout":
        """Read the layout from a session.

        Raises:
            ModelError: the model does not take one image tensor.
        """
        inputs = session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in _ELEMENT_TYPES:
            described = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
            raise ModelError(f"needs one image input of four dimensions, has {described or 'none'}")
        fixed = [side if isinstance(side, int) else 0 for side in inputs[0].shape]
        channels_last = fixed[1] != 3 and fixed[3] == 3
        if not channels_last and fixed[1] not in (0, 3):
            raise ModelError(f"input {inputs[0].name!r} of shape {inputs[0].shape} is not an RGB image")
        height, width = fixed[1:3] if channels_last else fixed[2:4]
        return _InputLayout(
            name=inputs[0].name,
            element=_ELEMENT_TYPES[inputs[0].type],
            channels_last=channels_last,
            count=fixed[0],
            width=width,
            height=height,
        )


class _Inference:
    """Runs a session; where it takes a fixed number of images, fewer are filled up with black ones."""

    def __init__(self, session: ort.InferenceSession, layout: _InputLayout, classes: int) -> None:
        self._session = session
        self._layout = layout
        self._classes = classes
        self._output = session.get_outputs()[0].name

    def __call__(self, images: Tensor) -> Tensor:
        """Map normalised images, float32 [N, 3, h, w], to logits [N, C, any, any] or labels [N, any, any]."""
        pixels = images.permute(0, 2, 3, 1) if self._layout.channels_last else images
        array = np.zeros((self._layout.count or len(images), *pixels.shape[1:]), self._layout.element)
        array[: len(images)] = pixels.numpy()
        output = self._session.run([self._output], {self._layout.name: array})[0]
        return self._channels_first(np.asarray(output)[: len(images)])

    def _channels_first(self, output: npt.NDArray[np.generic]) -> Tensor:
        is_integer = np.issubdtype(output.dtype, np.integer)
        if is_integer and output.ndim == 4 and 1 in (output.shape[1], output.shape[3]):
            output = output[:, 0] if output.shape[1] == 1 else output[..., 0]
        if is_integer and output.ndim == 3:
            return torch.from_numpy(output.astype(np.int64))
        if output.ndim == 4 and output.shape[1] == self._classes:
            return torch.from_numpy(output.astype(np.float32))
        if output.ndim == 4 and output.shape[3] == self._classes:
            return torch.from_numpy(output.astype(np.float32)).permute(0, 3, 1, 2)
        raise ModelError(
            f"output {self._output!r} of shape {output.shape} is neither labels nor logits of {self._classes} classes: "
            "set --teacher-classes"
        )


def _session(path: Path, device: torch.device) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised, and reported once
    providers: list[str | tuple[str, dict[str, int]]] = ["CPUExecutionProvider"]
    if device.type == "cuda" and "CUDAExecutionProvider" in ort.get_available_providers():
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    return ort.InferenceSession(path, options, providers)


def _file_digests(path: Path) -> list[str]:
    """Return digests of the model file and of the files beside it that hold its tensors."""
    graph = onnx.load(path, load_external_data=False).graph
    names = {ExternalDataInfo(each).location for each in graph.initializer if uses_external_data(each)}
    return [file_digest(each) for each in (path, *(path.parent / name for name in sorted(names)))]
