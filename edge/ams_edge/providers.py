"""Choosing where the model runs: the ONNX Runtime execution providers, how sessions are opened on them, whom to trust.

No provider may keep compiled models on disk: the key of TensorRT's engine cache (and of CoreML's model cache) leaves the
weights out, so that an updated model would silently run with old ones.
"""

import logging
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime  # type: ignore[import-untyped]  # it has neither stubs nor a py.typed marker

from ams_common.errors import ModelError, first_line, system_reason
from ams_common.layout import Float32Array
from ams_edge.runtime_config import ProviderName, RuntimeConfig

Session: TypeAlias = onnxruntime.InferenceSession

EXECUTION_PROVIDERS: Mapping[ProviderName, str] = {
    "cpu": "CPUExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "qnn": "QNNExecutionProvider",
    "nnapi": "NnapiExecutionProvider",
}
"""ONNX Runtime's name of each provider."""
MIN_AGREEMENT = 0.995
"""Share of pixels on which a provider must label as the CPU does."""
_ERRORS_ONLY = 3

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Backend:
    """An execution provider and the number of threads of its CPU kernels."""

    provider: ProviderName
    threads: int

    @property
    def reads_host_memory(self) -> bool:
        """Whether sessions work on buffers of this process in place, so that these can be bound once."""
        return self.provider == "cpu"

    def open_session(self, graph: bytes, initialisers: Mapping[str, Float32Array]) -> Session:
        """Return a session of an ONNX graph with external initialisers, which are copied.

        Raises:
            ModelError: ONNX Runtime refuses the graph, an initialiser is missing, unknown or of another shape, or the provider
                does not take the model.
        """
        return self._open(graph, _with_initialisers(self._session_options(), initialisers))

    def optimise(self, graph: bytes, initialisers: Mapping[str, Float32Array]) -> bytes:
        """Return the ONNX graph, initialisers inside, that a session of `open_session` runs on this machine.

        Raises:
            ModelError: as `open_session`, or there is no room for a temporary file.
        """
        options = _with_initialisers(self._session_options(), initialisers)
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "optimised.onnx"
                options.optimized_model_filepath = str(path)
                self._open(graph, options)
                return path.read_bytes()
        except OSError as error:
            raise ModelError(f"cannot write the optimised graph to a temporary file: {system_reason(error)}") from error

    def open_optimised(self, graph: bytes) -> Session:
        """Return a session that runs a graph of `optimise` as it is.

        Raises:
            ModelError: ONNX Runtime refuses the graph.
        """
        options = self._session_options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        return self._open(graph, options)

    def _open(self, graph: bytes, options: onnxruntime.SessionOptions) -> Session:
        name = EXECUTION_PROVIDERS[self.provider]
        try:
            session = onnxruntime.InferenceSession(graph, options, providers=self._provider_chain(), enable_fallback=0)
        except Exception as error:  # ONNX Runtime's exceptions have no common base below Exception
            raise ModelError(f"ONNX Runtime cannot run the model on {self.provider}: {first_line(error)}") from error
        if session.get_providers()[0] != name:
            raise ModelError(f"ONNX Runtime opens no session on {self.provider}, only on {session.get_providers()[0]}")
        return session

    def _session_options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        # XNNPACK has a thread pool of its own
        options.intra_op_num_threads = 1 if self.provider == "xnnpack" else self.threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        # spinning burns over a core for a gain of 1-2 ms, and doubles the time of a frame beside a busy neighbour
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _ERRORS_ONLY
        return options

    def _provider_chain(self) -> list[tuple[str, dict[str, str]]]:
        """Provider with its options, best first; the CPU takes the nodes that the others leave."""
        names: list[ProviderName] = [self.provider]
        if self.provider == "tensorrt":
            names.append("cuda")
        if self.provider != "cpu":
            names.append("cpu")
        return [(EXECUTION_PROVIDERS[name], self._provider_options(name)) for name in names]

    def _provider_options(self, name: ProviderName) -> dict[str, str]:
        options: dict[ProviderName, dict[str, str]] = {
            "xnnpack": {"intra_op_num_threads": str(self.threads)},
            # the default search tries every algorithm of every convolution, for each new session anew
            "cuda": {"cudnn_conv_algo_search": "HEURISTIC"},
            "tensorrt": {"trt_engine_cache_enable": "False", "trt_dump_ep_context_model": "False"},
            "coreml": {"ModelFormat": "MLProgram"},
            "qnn": {"backend_path": "QnnHtp.dll" if sys.platform == "win32" else "libQnnHtp.so"},
        }
        return options.get(name, {})


def choose_backend(config: RuntimeConfig, available: Iterable[str] | None = None) -> Backend:
    """Return the backend that `config` asks for, else the CPU with a warning; either way one log line says what and why.

    Args:
        config: what is wanted.
        available: ONNX Runtime's names of the providers that are there; None asks ONNX Runtime.
    """
    there = set(onnxruntime.get_available_providers() if available is None else available)
    found: list[ProviderName] = [name for name, full_name in EXECUTION_PROVIDERS.items() if full_name in there]
    wanted: ProviderName = _automatic(found) if config.provider == "auto" else config.provider
    used: ProviderName = wanted if wanted in found else "cpu"
    level = logging.INFO if used == wanted else logging.WARNING
    _log.log(level, "execution provider: wanted %s, available %s, using %s", config.provider, ", ".join(found), used)
    return Backend(provider=used, threads=config.inference_threads)


def _automatic(found: list[ProviderName]) -> ProviderName:
    return "cuda" if "cuda" in found else "cpu"


def trusted_backend(backend: Backend, label_probe: Callable[[Backend], npt.NDArray[np.uint8]]) -> Backend:
    """Return `backend` if it labels as the CPU does, else the CPU with a warning.

    Args:
        backend: the provider to check; the CPU passes unchecked.
        label_probe: labels the same picture on the backend it is given; raises ModelError if the model does not run there.

    Raises:
        ModelError: the model does not run on the CPU either.
    """
    if backend.provider == "cpu":
        return backend
    cpu = Backend(provider="cpu", threads=backend.threads)
    expected = label_probe(cpu)
    try:
        agreement = float(np.mean(label_probe(backend) == expected))
    except ModelError as error:
        _log.warning("execution provider: %s; using cpu", error)
        return cpu
    if agreement >= MIN_AGREEMENT:
        return backend
    _log.warning("execution provider: %s labels %.2f %% of pixels as cpu does; using cpu", backend.provider, 100 * agreement)
    return cpu


def _with_initialisers(
    options: onnxruntime.SessionOptions, initialisers: Mapping[str, Float32Array]
) -> onnxruntime.SessionOptions:
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in initialisers.values()]
    options.add_external_initializers(list(initialisers), values)
    return options
