"""From the shell to a command: Ctrl-C while Python imports, which takes seconds on a small device, leaves no traceback."""

import signal
from collections.abc import Callable
from importlib import import_module


def edge() -> int:
    """Run `ams-edge`, which takes SIGINT itself as soon as there is something to end in good order.

    SIGHUP has the budgets read again. Until the command listens to it, it has not read them, and must not be killed by it.
    """
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return _main_of("ams_edge.command")()


def server() -> int:
    """Run `ams-server`, which does so too; before, PyTorch would take an interrupt for a model that it cannot export."""
    return _main_of("ams_server.command")()


def evaluation() -> int:
    """Run `ams-eval`, which ends its processes and keeps what is finished on a KeyboardInterrupt."""
    handler = signal.getsignal(signal.SIGINT)
    main = _main_of("ams_eval.command")
    signal.signal(signal.SIGINT, handler)
    return main()


def _main_of(module: str) -> Callable[[], int]:
    """Return `main` of `module`; SIGINT ends the process at once from now on, unless it is ignored, as behind a script."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    main: Callable[[], int] = import_module(module).main
    return main
