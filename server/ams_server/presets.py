"""Named sets of defaults for `ams-server --preset`; keys are fields of the configuration classes.

`default` is the product's own choice. `paper` is the published method. `authors_code` is what the authors' released experiments
do where that differs from their paper. A preset names every constant that the two disagree about, even one that equals today's
default, so that a better default never changes what a preset reproduces.
"""

from collections.abc import Mapping
from typing import Any

_PUBLISHED: Mapping[str, Any] = {
    "update_interval_s": 10.0,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "learning_rate_boost": 1.0,
    "sparsity_boost": 0.0,
    "selection": "gradient_guided",
    "class_balance": 0.0,
    "recency_s": 0.0,
    "loss_stride": 1,
    "adaptive_pacing": False,
    "early_phases": False,
    "sampling_period_s": 10.0,
    "min_sampling_hz": 0.1,
    "max_sampling_hz": 1.0,
    "worthwhile_bits": 0.0,
    "codec": "mask-float16",
}

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        **_PUBLISHED,
        "steps": 20,
        "fraction": 0.05,
        "horizon_s": 240.0,
        "first_selection": "random",
        "epsilon_inside_root": True,
        "restore_between_phases": False,
        "batch_norm": "frozen",
        "sampling_rule": "loss",
    },
    "authors_code": {
        **_PUBLISHED,
        "steps": 200,
        "batch_size": 10,
        "fraction": 0.10,
        "horizon_s": 250.0,
        "first_selection": "first_step",
        "epsilon_inside_root": False,
        "restore_between_phases": True,
        "batch_norm": "train",
        "sampling_rule": "similarity",
    },
}
