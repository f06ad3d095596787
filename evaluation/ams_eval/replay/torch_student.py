"""The student in PyTorch, in the place of ONNX Runtime on the device of a replay."""

from ams_common.classes import UInt8Array
from ams_common.model_file import StoredModel
from ams_server.learners.prediction import student_labels
from ams_server.trainer import Trainer


class TorchStudent:
    """Labels pictures with the weights that a device holds."""

    def __init__(self, trainer: Trainer) -> None:
        """Run the module of `trainer`, which is not trained any more."""
        self._trainer = trainer
        self._digest = b""

    def labels(self, held: StoredModel, image: UInt8Array) -> UInt8Array:
        """Return the labels, uint8 [H, W], of an RGB picture, uint8 [H, W, 3], by the model that the device holds."""
        if held.weights_digest != self._digest:
            self._trainer.model.load(held.vector)
            self._digest = held.weights_digest
        return student_labels(self._trainer, image)
