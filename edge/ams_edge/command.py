"""The command `ams-edge`."""

import signal
from collections.abc import Sequence

from ams_common.settings import configure_logging, load_settings, run_command
from ams_edge.agent import Agent
from ams_edge.settings import AgentSettings


def main() -> int:
    """Run the agent until the recording ends, or until SIGINT or SIGTERM."""
    return run_command(run)


def run(arguments: Sequence[str]) -> int:
    """Run the agent with these command-line arguments; return the exit status.

    Raises:
        AmsError: what a person must mend, in one line.
    """
    settings = load_settings(AgentSettings, arguments)
    configure_logging(settings.verbose)
    with Agent(settings) as agent:

        def stop(*_: object) -> None:
            """End the loop below after the frame in hand; a signal handler."""
            agent.stop()

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        for _ in agent:
            pass
    return 0
