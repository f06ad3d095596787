"""The command `ams-server`: serves devices, with `admin` asks a server that runs, with `provision` writes the first model."""

from collections.abc import Sequence

from ams_common.errors import ConfigurationError
from ams_common.settings import run_command


def main() -> int:
    """Serve until SIGTERM or SIGINT, ask a running server, or write a file for devices."""
    return run_command(run)


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments say; return the exit status.

    Raises:
        AmsError: what a person must mend, in one line.
    """
    # Each is imported only where it is needed: a question must not wait for PyTorch.
    if arguments[:1] == ["admin"]:
        from ams_server import admin_command

        return admin_command.run(arguments[1:])
    if arguments[:1] == ["provision"]:
        from ams_server import provision

        return provision.run(arguments[1:])
    if arguments and not arguments[0].startswith("-"):
        raise ConfigurationError(f"unknown subcommand {arguments[0]!r}: use admin or provision, or none to serve")
    from ams_server import daemon

    return daemon.run(arguments)
