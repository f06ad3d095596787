"""What a user gave reaches the device of a replay."""

from pathlib import Path

import pytest
from tests.evaluation.replays import recording
from tests.evaluation.tiny_film import settings_for, write_film
from tests.server.session_support import small_model

from ams_common.clock import SystemClock
from ams_edge.frame_filter import FilterConfig
from ams_eval.experiment import stage_for
from ams_eval.references import label_references
from ams_eval.runner import ExperimentConfig, Workshop


def test_network_and_filter_that_were_given_are_those_of_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ams_eval.experiment.starting_model", lambda config: small_model())
    given = {"skip_below": 0.3, "longest_skip_s": 9.0, "link": "80ms", "uplink_kbps": 60.0, "downlink_kbps": 50.0}
    config = ExperimentConfig.model_validate({**settings_for(write_film(tmp_path)), **given})
    laboratory = Workshop(SystemClock()).laboratory(config)
    model = laboratory.model(config)
    references = label_references(recording(2), laboratory.teacher, model.manifest.classes, (32, 32), 1.0)
    stage = stage_for(laboratory, recording(2), references, config)
    around = stage.surroundings(stage.timeline())
    assert around.frame_filter == FilterConfig(skip_below=0.3, longest_skip_s=9.0)
    assert around.link.delay_s == 0.08
    assert (stage.budget.uplink_bps, stage.budget.downlink_bps) == (60_000, 50_000)
