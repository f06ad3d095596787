"""Draws what came out of a sweep: a page of its curves, and the most important ones as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ams_eval.files import remove, write_atomically
from ams_eval.report.picture import picture
from ams_eval.report.sweep_charts import HUMAN, NUMBERS, TEACHER, VIEWS, Panel
from ams_eval.report.sweep_page import pictures, render_sweep
from ams_eval.result_folder import unique
from ams_eval.sweeps.agenda import Planned
from ams_eval.sweeps.curves import curves_of
from ams_eval.sweeps.rows import Row

PAGE_NAME, FIGURES = "sweep.html", "figures"
REFERENCES = {TEACHER: "against the teacher", HUMAN: "against human labels"}


def write_curves(planned: Sequence[Planned], runs: Mapping[str, Row], name: str, out: Path) -> str:
    """Write page and pictures of a sweep into its folder, in the place of earlier ones; return what to tell of them.

    Recordings of which nothing is finished are left out, which the page says.

    Raises:
        ConfigurationError: a file cannot be written.
    """
    recordings = unique(each.job.recording for each in planned if each.job.name in runs)
    labelled = [each for each in recordings if _has_people(each, planned, runs)]
    panels = _panels(planned, runs, recordings, labelled)
    alone = [panel for each in recordings for panel in _panels(planned, runs, [each], [each] if each in labelled else [])]
    figures = pictures(panels[0]) if panels else {}
    for view in VIEWS:
        path = out / FIGURES / f"{view.name}.svg"
        if view.name in figures:
            write_atomically(path, picture(figures[view.name]).encode())
        else:
            remove(path)
    page = out / PAGE_NAME
    if not figures:
        remove(page)
        return f"no {PAGE_NAME}: {_missing(planned, runs) or 'nothing differs in kilobits or in model age'}"
    document = render_sweep(name, panels, alone if len(recordings) > 1 else [], missing=_missing(planned, runs))
    write_atomically(page, document.encode())
    return f"curves: {page}"


def _panels(
    planned: Sequence[Planned], runs: Mapping[str, Row], recordings: Sequence[str], labelled: Sequence[str]
) -> list[Panel]:
    """Return the plots of means over these recordings, and over those of them that people have labelled."""
    panels = []
    for miou, over in ((TEACHER, recordings), (HUMAN, labelled)):
        curves = curves_of(planned, runs, NUMBERS, over) if over else []
        if curves:
            aggregate = f"mean of {len(over)} recordings" if len(over) > 1 else over[0]
            panels.append(Panel(f"{aggregate}, {REFERENCES[miou]}", curves, miou))
    return panels


def _has_people(recording: str, planned: Sequence[Planned], runs: Mapping[str, Row]) -> bool:
    names = {each.job.name for each in planned if each.job.recording == recording}
    return any(runs[name]["human_frames"] for name in names if name in runs)


def _missing(planned: Sequence[Planned], runs: Mapping[str, Row]) -> str:
    """Return what of a sweep is not finished, in words; empty where all of it is."""
    names = unique(each.job.name for each in planned)
    missing = [name for name in names if name not in runs]
    if not missing:
        return ""
    finished = {each.job.recording for each in planned if each.job.name in runs}
    left_out = [each for each in unique(each.job.recording for each in planned) if each not in finished]
    whole = f", all of {', '.join(left_out)}" if left_out else ""
    return f"{len(missing)} of {len(names)} experiments are missing{whole}"
