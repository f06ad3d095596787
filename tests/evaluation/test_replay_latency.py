import pytest
from pydantic import ValidationError

from ams_common.errors import ConfigurationError
from ams_eval.replay.latency import Latency, NetworkConfig, parse_latency


def test_none_measured_and_stated() -> None:
    assert parse_latency("none") == Latency()
    assert parse_latency("measured") == Latency(measured=True)
    assert parse_latency("label=0.25, step=0.04") == Latency(label_s=0.25, step_s=0.04)
    stated = parse_latency("encode=1,label=2,step=3,code=4,build=5")
    assert stated == Latency(encode_s=1, label_s=2, step_s=3, code_s=4, build_s=5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slow", "unknown latency 'slow': use none, measured, or NAME=SECONDS of encode, label, step, code, build"),
        ("", "unknown latency ''"),
        ("label=1,label=2", "unknown latency 'label=2'"),
        ("step=fast", "latency 'step=fast' is no number of seconds from 0 to 3600"),
        ("step=-1", "latency 'step=-1' is no number"),
        ("step=nan", "latency 'step=nan' is no number"),
        ("step=1e9", "latency 'step=1e9' is no number"),
    ],
)
def test_what_is_no_latency_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_latency(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("field", [{"latency": "soon"}, {"link": "wire"}, {"uplink_kbps": -1}, {"downlink_kbps": float("inf")}])
def test_settings_are_checked_when_they_are_given(field: dict[str, str | float]) -> None:
    with pytest.raises((ValidationError, ConfigurationError)):
        NetworkConfig.model_validate(field)
