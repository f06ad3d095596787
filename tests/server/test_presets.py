import pytest
from pydantic_settings import SettingsConfigDict

from ams_common.settings import CommandSettings, load_settings
from ams_server.frame_size import FrameConfig
from ams_server.pacing import PacingConfig
from ams_server.presets import PRESETS
from ams_server.sampling import SamplingConfig
from ams_server.settings import LabelConfig
from ams_server.training_config import TrainingConfig


# pydantic merges the configurations of the bases.
class TrainingSettings(  # pyright: ignore[reportIncompatibleVariableOverride]
    TrainingConfig, SamplingConfig, PacingConfig, FrameConfig, LabelConfig, CommandSettings
):
    """The parts that presets speak of, as a command has them."""

    model_config = SettingsConfigDict(cli_prog_name="training")
    presets = PRESETS
    preset: str = "default"
    """Named set of defaults."""


def settings(*arguments: str) -> TrainingSettings:
    return load_settings(TrainingSettings, arguments)


def test_the_published_method() -> None:
    paper = settings("--preset", "paper")
    assert (paper.steps, paper.fraction, paper.horizon_s, paper.update_interval_s) == (20, 0.05, 240, 10)
    assert (paper.optimizer, paper.learning_rate, paper.epsilon_inside_root) == ("adam", 1e-3, True)
    assert (paper.selection, paper.first_selection, paper.restore_between_phases) == ("gradient_guided", "random", False)
    assert (paper.sampling_rule, paper.min_sampling_hz, paper.max_sampling_hz) == ("loss", 0.1, 1.0)
    assert paper.worthwhile_bits == 0
    assert not paper.early_phases
    assert paper.codec == "mask-float16"
    assert (paper.class_balance, paper.recency_s, paper.learning_rate_boost, paper.sparsity_boost) == (0, 0, 1, 0)


def test_the_authors_code_differs_where_it_does() -> None:
    paper, code = settings("--preset", "paper"), settings("--preset", "authors_code")
    differing = {name for name in TrainingSettings.model_fields if getattr(paper, name) != getattr(code, name)}
    assert differing == {
        "preset",
        "steps",
        "batch_size",
        "fraction",
        "horizon_s",
        "first_selection",
        "epsilon_inside_root",
        "restore_between_phases",
        "batch_norm",
        "sampling_rule",
    }
    assert (code.steps, code.batch_size, code.fraction, code.horizon_s) == (200, 10, 0.1, 250)


def test_the_default_preset_changes_nothing() -> None:
    assert settings() == settings("--preset", "default")
    assert settings().steps == TrainingConfig().steps


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"default"}))
def test_a_preset_settles_all_that_the_two_disagree_about(name: str) -> None:
    others = set().union(*PRESETS.values()) - {"batch_size"}
    assert others <= PRESETS[name].keys()


def test_a_flag_wins_over_the_preset() -> None:
    chosen = settings("--preset", "authors_code", "--steps", "7")
    assert (chosen.steps, chosen.batch_size) == (7, 10)
