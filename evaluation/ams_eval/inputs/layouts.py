"""Opens what a path names, in whatever layout it is."""

from pathlib import Path

from ams_common.errors import ConfigurationError, SourceError
from ams_eval.inputs.a2d2 import a2d2
from ams_eval.inputs.camvid import camvid
from ams_eval.inputs.cityscapes import cityscapes
from ams_eval.inputs.folders import frame_folder
from ams_eval.inputs.input_config import InputConfig
from ams_eval.inputs.joined import PLAYLIST_SUFFIX, join, playlist_entries
from ams_eval.inputs.lvs import lvs
from ams_eval.inputs.naming import recording_name
from ams_eval.inputs.recording import Recording
from ams_eval.inputs.video import video_file

DATA_SETS = (cityscapes, a2d2, camvid)
FOLDERS = (lvs, frame_folder)


def open_recordings(path: Path, config: InputConfig) -> list[Recording]:
    """Return the recordings that `path` names, at least one: a video, a playlist, or a folder in a layout that is known.

    What a playlist names becomes one recording; `config` then holds for each of its parts.

    Raises:
        SourceError: there is nothing, or nothing that can be read.
        ConfigurationError: labels do not match the frames, or a setting does not fit.
    """
    if not path.exists():
        raise SourceError(f"there is no video or folder {str(path)!r}")
    if path.suffix == PLAYLIST_SUFFIX:
        parts = [recording for entry in playlist_entries(path) for recording in open_recordings(entry, config)]
        return [join(recording_name(path.stem), parts)]
    if not path.is_dir():
        return video_file(path, config)
    folder = path.absolute()  # its own name and those of the folders above tell what it is
    for layout in DATA_SETS:
        if recordings := layout(folder, config):
            if config.human_labels is not None:
                raise ConfigurationError(f"--human-labels is not for {str(path)!r}, a data set with labels of its own")
            return recordings
    for layout in FOLDERS:
        if recordings := layout(folder, config):
            return recordings
    raise SourceError(f"folder {str(path)!r} has no video and no frames, and is no data set that is known")
