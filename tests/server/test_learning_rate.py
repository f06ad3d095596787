"""The step size of a training phase."""

import pytest
from pydantic import ValidationError

from ams_server.learning_rate import LearningRateConfig, phase_learning_rate


def rates(config: LearningRateConfig, phases: int = 200, part: float = 1.0) -> list[float]:
    return [phase_learning_rate(config, phases=phase, part=part) for phase in range(phases)]


def test_it_begins_high_and_what_was_added_halves() -> None:
    config = LearningRateConfig(learning_rate=1e-3, learning_rate_boost=3.0, boost_half_life=5.0)
    found = rates(config)
    assert found[0] == pytest.approx(3e-3)
    assert found[5] == pytest.approx(2e-3)
    assert found[10] == pytest.approx(1.5e-3)
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(1e-3)


def test_without_a_boost_it_is_constant() -> None:
    assert set(rates(LearningRateConfig(learning_rate=0.02, learning_rate_boost=1.0))) == {0.02}


def test_fewer_parameters_take_larger_steps() -> None:
    config = LearningRateConfig(learning_rate=1e-3, learning_rate_boost=1.0, sparsity_boost=0.5)
    assert phase_learning_rate(config, phases=0, part=0.25) == pytest.approx(2e-3)
    same = LearningRateConfig(learning_rate=1e-3, learning_rate_boost=1.0, sparsity_boost=0.0)
    assert phase_learning_rate(same, phases=0, part=0.25) == 1e-3


def test_the_stronger_reason_for_larger_steps_counts() -> None:
    config = LearningRateConfig(learning_rate=1e-3, learning_rate_boost=4.0, boost_half_life=1.0, sparsity_boost=0.5)
    found = rates(config, part=0.25)
    assert found[0] == pytest.approx(4e-3)
    assert found[1] == pytest.approx(2.5e-3)
    assert found[2] == found[-1] == pytest.approx(2e-3)


@pytest.mark.parametrize("changes", [{"learning_rate_boost": 0.5}, {"boost_half_life": 0}, {"sparsity_boost": -1}])
def test_what_would_slow_a_start_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        LearningRateConfig(**changes)
