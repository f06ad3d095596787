"""The command `ams-server provision`: the first model of devices as a file, so that no network has to carry it."""

import logging
from collections.abc import Sequence
from pathlib import Path

from pydantic_settings import SettingsConfigDict

from ams_common.errors import ConfigurationError, system_reason
from ams_common.layout import weights_digest
from ams_common.model_file import StoredModel, write_model
from ams_common.session.greeting import START_VERSION
from ams_common.settings import configure_logging, load_settings
from ams_server.settings import ServerSettings
from ams_server.starting_model import starting_model, warn_of_random_start
from ams_server.students.export import student_vector

_log = logging.getLogger(__name__)


class ProvisionSettings(ServerSettings):
    """Write the model that devices of a server with these settings start with to a file, for `ams-edge --model`."""

    model_config = SettingsConfigDict(cli_prog_name="ams-server provision")

    out: Path
    """File to write, for example model.ams; one that is there is replaced."""


def run(arguments: Sequence[str]) -> int:
    """Write the file that these command-line arguments ask for; return the exit status.

    Raises:
        AmsError: what a person must mend, in one line.
    """
    settings = load_settings(ProvisionSettings, arguments)
    configure_logging(settings.verbose)
    model = provision(settings)
    manifest = model.manifest
    _log.info(
        "%s holds %s for %dx%d pixels, classes %s: %.1f MB, weights %s",
        *(settings.out, manifest.student, manifest.width, manifest.height, ", ".join(manifest.classes.names)),
        *(settings.out.stat().st_size / 1e6, model.weights_digest.hex()),
    )
    return 0


def provision(settings: ProvisionSettings) -> StoredModel:
    """Write the starting model of `settings` to its file, and return it.

    Raises:
        ConfigurationError: the file cannot be written, or a setting cannot be used.
        ModelError: the weights do not fit the student.
    """
    if not settings.out.parent.is_dir():
        raise ConfigurationError(f"cannot write --out {str(settings.out)!r}: there is no such folder")
    warn_of_random_start(settings)
    start = starting_model(settings)
    vector = student_vector(start.module)
    model = StoredModel(
        manifest=start.manifest,
        graph=start.graph,
        vector=vector,
        version=START_VERSION,
        weights_digest=weights_digest(vector),
    )
    try:
        write_model(settings.out, model)
    except OSError as error:
        raise ConfigurationError(f"cannot write --out {str(settings.out)!r}: {system_reason(error)}") from error
    return model
