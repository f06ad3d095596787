"""Settings of the edge's model runtime."""

from typing import Literal, TypeAlias

from pydantic import Field

from ams_common.settings import PartConfig

ProviderName: TypeAlias = Literal["cpu", "xnnpack", "cuda", "tensorrt", "coreml", "qnn", "nnapi"]
ProviderChoice: TypeAlias = Literal["auto", ProviderName]


class RuntimeConfig(PartConfig):
    """How the model runs on this device."""

    provider: ProviderChoice = "auto"
    """ONNX Runtime execution provider; auto takes cuda where there is one, else cpu. One that is missing, that cannot run the
    model or that labels otherwise than cpu is replaced by cpu with a warning."""
    inference_threads: int = Field(default=1, ge=1, le=64)
    """Threads that run the model on a CPU provider; leave cores for the camera, the encoder and updates."""
