"""The command `ams-eval` and its subcommands."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module

from ams_common.errors import ConfigurationError
from ams_common.settings import run_command

SUBCOMMANDS: Mapping[str, tuple[str, str]] = {
    "run": ("ams_eval.run", "show what adaptation would do for recordings, beside everything else one might do"),
    "sweep": ("ams_eval.sweeps.command", "run schemes with all combinations of settings, and keep the numbers in a database"),
    "local": ("ams_eval.local", "distil just in time on this machine: speed-up over the teacher on every frame, and mIoU"),
    "demo": ("ams_eval.demo", "show server and edge at work on this machine, and report"),
    "compare": ("ams_eval.compare", "say what differs between two folders of results"),
}
"""Name of a subcommand: (module with its `run`, what it does)."""


def main() -> int:
    """Run a subcommand."""
    return run_command(run)


def run(arguments: Sequence[str]) -> int:
    """Run the subcommand that the first argument names with the others; return the exit status.

    Raises:
        AmsError: what a person must mend, in one line.
    """
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name not in SUBCOMMANDS:
        raise ConfigurationError(f"unknown subcommand {name!r}: use {', '.join(SUBCOMMANDS)}")
    return _runner(name)(arguments[1:])


def usage() -> str:
    """Return what `ams-eval --help` says."""
    lines = [f"  {name:<8} {what}" for name, (_, what) in SUBCOMMANDS.items()]
    heading = "usage: ams-eval SUBCOMMAND [options]\n\nMeasure and show adaptive model streaming.\n\nsubcommands:\n"
    return heading + "\n".join(lines) + "\n\n`ams-eval SUBCOMMAND --help` lists the options."


def _runner(name: str) -> Callable[[Sequence[str]], int]:
    """Return the `run` of a subcommand; its imports, PyTorch among them, are not paid for by the others."""
    module, _ = SUBCOMMANDS[name]
    runner: Callable[[Sequence[str]], int] = import_module(module).run
    return runner


if __name__ == "__main__":
    sys.exit(main())
