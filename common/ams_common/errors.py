"""The exceptions of this product.

AmsError                    anything that a person or a peer can cause and that a command reports in one line
├── ConfigurationError      a setting, a file given by the user or a combination of settings that cannot work
├── SourceError             a camera, stream or video file that cannot be opened or read
├── ModelError              weights, graph or class set that do not fit together
├── CodecError              bytes that are not a valid update or frame batch
├── UpdateRefusedError      a valid update that does not belong to the weights that are here
└── ProtocolError           a message that the protocol does not allow at this point

Messages are lower case without a full stop; they name the offending value and the way out.
"""


class AmsError(Exception):
    """Base of all errors that are reported in one line instead of a traceback."""


class ConfigurationError(AmsError):
    """A setting or a user's file that cannot work."""


class SourceError(AmsError):
    """A camera, stream or video file that cannot be opened or read."""


class ModelError(AmsError):
    """Weights, a graph or a class set that do not fit together."""


class CodecError(AmsError):
    """Bytes that are not a valid update or frame batch."""


class UpdateRefusedError(AmsError):
    """A well-formed update that does not belong to the weights that are here."""


class ProtocolError(AmsError):
    """A message that the protocol does not allow at this point."""


def system_reason(error: Exception) -> str:
    """Return what the system says of an OSError, or FFmpeg of its own errors: lower case, without number and file name."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def reported(part: str, failure: Exception) -> AmsError:
    """Return what to raise because `failure` has ended a part of the program: itself if it is a line for people, else one."""
    if isinstance(failure, AmsError):
        return failure
    error = AmsError(f"{part} has failed: {type(failure).__name__}: {first_line(failure)}; --verbose shows where")
    error.__cause__ = failure
    return error
