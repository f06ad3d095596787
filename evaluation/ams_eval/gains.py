"""What each scheme adds to single frames over no customisation, as in figure 5 of the AMS paper."""

import csv
import io
import json
from collections.abc import Mapping, Sequence

import numpy as np

from ams_eval import metrics
from ams_eval.metrics import FloatArray
from ams_eval.result_folder import NO_CUSTOMISATION, Run, base_of


def pooled_gains(runs: Sequence[Run]) -> dict[str, FloatArray]:
    """Return the gain in mIoU with the teacher of each frame, -1..1, float64 [any], over recordings and seeds, by scheme.

    Schemes of which no run has one without customisation beside it are left out.

    Raises:
        ConfigurationError: two runs that belong together are of different frames or classes.
    """
    gains: dict[str, list[FloatArray]] = {}
    for run in runs:
        base = base_of(run, runs)
        if base is not None and run.outcome.scheme != NO_CUSTOMISATION:
            gains.setdefault(run.label, []).append(metrics.frame_gain(run.outcome, base.outcome))
    return {name: np.concatenate(each) for name, each in gains.items()}


def gains_csv(gains: Mapping[str, FloatArray]) -> str:
    """Return the cumulative distributions as CSV: a row for each frame, with the share of frames that gain no more."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(["scheme", "gain", "share_of_frames"])
    for name, gain in gains.items():
        writer.writerows((name, *row) for row in zip(*(each.tolist() for each in metrics.cumulative(gain)), strict=True))
    return target.getvalue()


def gains_json(gains: Mapping[str, FloatArray]) -> str:
    """Return the same as JSON: by scheme the gains in ascending order, and the share of frames that gain no more than each."""
    columns = {name: [each.tolist() for each in metrics.cumulative(gain)] for name, gain in gains.items()}
    return json.dumps({name: {"gain": gain, "share_of_frames": share} for name, (gain, share) in columns.items()}) + "\n"
