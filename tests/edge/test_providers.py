import logging

import numpy as np
import numpy.typing as npt
import pytest
from tests.edge.tiny_student import tiny_model

from ams_common.errors import ModelError
from ams_edge.providers import EXECUTION_PROVIDERS, Backend, choose_backend, trusted_backend
from ams_edge.runtime_config import ProviderName, RuntimeConfig

UInt8Array = npt.NDArray[np.uint8]
CPU, CUDA, TENSORRT, COREML = (EXECUTION_PROVIDERS[name] for name in ("cpu", "cuda", "tensorrt", "coreml"))


@pytest.mark.parametrize(
    ("wanted", "available", "used"),
    [
        ("auto", [CPU], "cpu"),
        ("auto", [TENSORRT, CUDA, CPU], "cuda"),
        ("auto", [COREML, CPU], "cpu"),
        ("cpu", [CUDA, CPU], "cpu"),
        ("tensorrt", [TENSORRT, CUDA, CPU], "tensorrt"),
        ("cuda", [CPU], "cpu"),
    ],
)
def test_the_provider_is_the_wanted_one_or_the_cpu(wanted: ProviderName, available: list[str], used: str) -> None:
    config = RuntimeConfig(provider=wanted, inference_threads=3)
    assert choose_backend(config, available) == Backend(provider=used, threads=3)  # type: ignore[arg-type]  # a str


def test_a_missing_provider_is_named_beside_those_that_are_there(caplog: pytest.LogCaptureFixture) -> None:
    choose_backend(RuntimeConfig(provider="qnn"), [CPU, COREML])
    assert caplog.record_tuples[-1][1:] == (
        logging.WARNING,
        "execution provider: wanted qnn, available cpu, coreml, using cpu",
    )


def test_the_choice_is_logged_without_alarm(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        choose_backend(RuntimeConfig())
    assert caplog.records[-1].levelno == logging.INFO
    assert "wanted auto" in caplog.text


def test_compiled_models_are_never_kept_on_disk() -> None:
    chain = Backend(provider="tensorrt", threads=1)._provider_chain()
    assert [name for name, _ in chain] == [TENSORRT, CUDA, CPU]
    assert chain[0][1]["trt_engine_cache_enable"] == "False"
    for provider in EXECUTION_PROVIDERS:
        options = Backend(provider=provider, threads=1)._provider_options(provider)
        assert not [key for key, value in options.items() if "cache" in key.lower() and value != "False"]


@pytest.mark.parametrize(("provider", "threads"), [("cpu", 3), ("xnnpack", 1)])
def test_sessions_neither_spin_nor_take_more_threads(provider: ProviderName, threads: int) -> None:
    options = Backend(provider=provider, threads=3)._session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (threads, 1)


def test_a_provider_that_is_not_there_opens_no_session() -> None:
    stored = tiny_model()
    weights = {tensor.name: view for tensor, view in stored.manifest.layout.views(stored.vector)}
    with pytest.raises(ModelError, match="xnnpack"):
        Backend(provider="xnnpack", threads=1).open_session(stored.graph, weights)


def test_an_optimised_graph_needs_room_for_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.TemporaryDirectory", lambda: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(ModelError, match="no space left"):
        Backend(provider="cpu", threads=1).optimise(b"", {})


def labels(wrong: int) -> UInt8Array:
    result = np.zeros(1000, np.uint8)
    result[:wrong] = 1
    return result


@pytest.mark.parametrize(("wrong", "used"), [(0, "cuda"), (5, "cuda"), (6, "cpu")])
def test_a_provider_must_label_as_the_cpu_does(wrong: int, used: str, caplog: pytest.LogCaptureFixture) -> None:
    backend = Backend(provider="cuda", threads=2)
    trusted = trusted_backend(backend, lambda each: labels(0 if each.provider == "cpu" else wrong))
    assert trusted == Backend(provider=used, threads=2)  # type: ignore[arg-type]  # a str
    assert ("99.40 % of pixels" in caplog.text) == (used == "cpu")


def test_a_provider_that_does_not_take_the_model_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    def probe(backend: Backend) -> UInt8Array:
        if backend.provider != "cpu":
            raise ModelError("no such kernel")
        return labels(0)

    assert trusted_backend(Backend(provider="coreml", threads=1), probe).provider == "cpu"
    assert "no such kernel; using cpu" in caplog.text


def test_the_cpu_is_trusted_unseen() -> None:
    def probe(backend: Backend) -> UInt8Array:
        raise AssertionError(backend)

    assert trusted_backend(Backend(provider="cpu", threads=1), probe).provider == "cpu"


def test_a_model_that_does_not_run_on_the_cpu_either_is_an_error() -> None:
    def probe(backend: Backend) -> UInt8Array:
        raise ModelError(backend.provider)

    with pytest.raises(ModelError, match="cpu"):
        trusted_backend(Backend(provider="cuda", threads=1), probe)
