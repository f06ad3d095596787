"""What runs the student of a replayed device."""

from typing import Literal

from ams_edge.runtime_config import RuntimeConfig


class StudentRuntimeConfig(RuntimeConfig):
    """How the model runs on the device of a replay."""

    inference: Literal["onnx", "torch"] = "onnx"
    """ONNX Runtime as on a real device, or PyTorch where the server trains: a GPU labels a recording faster so, and some pixels
    may be labelled otherwise."""
