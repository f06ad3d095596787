"""The command `ams-edge`."""

import logging
import signal
from collections.abc import Sequence

from ams_common.errors import AmsError, ConfigurationError
from ams_common.settings import configure_logging, load_settings, overriding, run_command
from ams_edge.agent import Agent
from ams_edge.settings import AgentSettings

BUDGETS = ("uplink_kbps", "downlink_kbps")
"""The settings that SIGHUP reads again."""

_log = logging.getLogger(__name__)


def main() -> int:
    """Run the agent until the recording ends, or until SIGINT or SIGTERM; SIGHUP reads the budgets again."""
    return run_command(run)


def run(arguments: Sequence[str]) -> int:
    """Run the agent with these command-line arguments; return the exit status.

    Raises:
        AmsError: what a person must mend, in one line.
    """
    if arguments and not arguments[0].startswith("-"):
        raise ConfigurationError(
            f"unknown argument {arguments[0]!r}: --source names a recording or camera; "
            "admin and provision are subcommands of ams-server"
        )
    settings = load_settings(AgentSettings, arguments)
    configure_logging(settings.verbose)
    with Agent(settings) as agent:

        def stop(*_: object) -> None:
            """End the loop below after the frame in hand; a signal handler."""
            agent.stop()

        def reload(*_: object) -> None:
            """Take the budgets that file, environment and command line give now; a signal handler."""
            reload_budgets(agent, settings, arguments)

        signal.signal(signal.SIGHUP, reload)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        for _ in agent:
            pass
    return 0


def reload_budgets(agent: Agent, started: AgentSettings, arguments: Sequence[str]) -> None:
    """Read the settings again and give `agent`, which has `started` with others, its budgets; what else has changed waits."""
    try:
        settings = load_settings(AgentSettings, arguments)
        agent.set_budgets(uplink_kbps=settings.uplink_kbps, downlink_kbps=settings.downlink_kbps)
        stronger = overriding(settings, arguments, BUDGETS)
    except AmsError as error:
        _log.warning("the settings stay as they are: %s", error)
        return
    if stronger:
        _log.warning("%s wins over %s, until a start without it", ", ".join(stronger), settings.config)
    others = [name for name in AgentSettings.model_fields if name not in BUDGETS]
    changed = [name for name in others if getattr(settings, name) != getattr(started, name)]
    if changed:
        _log.warning("only budgets are read again; these have changed too and wait for the next start: %s", ", ".join(changed))
