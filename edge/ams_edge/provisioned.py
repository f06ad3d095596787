"""The model that was put on the device beforehand."""

from pathlib import Path

from ams_common.errors import AmsError, ConfigurationError, system_reason
from ams_common.model_file import StoredModel, read_model


def read_provisioned(path: Path, *, student: str, class_set: str) -> StoredModel:
    """Return the model in a file of `ams-server provision`.

    Args:
        path: the file.
        student: name of the student that it must hold; empty for any.
        class_set: name of the class set that it must hold; empty for any.

    Raises:
        ConfigurationError: the file cannot be read, is damaged, or holds another student or class set.
    """
    try:
        model = read_model(path)
    except OSError as error:
        raise ConfigurationError(f"cannot read --model {str(path)!r}: {system_reason(error)}") from error
    except AmsError as error:
        way_out = "make it again with ams-server provision"
        raise ConfigurationError(f"cannot use --model {str(path)!r}: {error}; {way_out}") from error
    manifest = model.manifest
    wanted = (("student", student, manifest.student), ("class set", class_set, manifest.classes.name))
    for what, asked, found in wanted:
        if asked and asked != found:
            flag = f"--{what.replace(' ', '-')}"
            raise ConfigurationError(f"--model {str(path)!r} holds the {what} {found!r}, but {flag} asks for {asked!r}")
    return model
