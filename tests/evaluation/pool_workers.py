"""Jobs for worker processes of the tests: what to do is in the job's name."""

import os
import signal
import time
from collections.abc import Callable

from ams_common.errors import ConfigurationError
from ams_eval.sweeps.pool import Report


def make_worker() -> Callable[[str, Report], None]:
    done: list[str] = []

    def work(job: str, report: Report) -> None:
        done.append(job)
        match job.partition(" ")[0]:
            case "count":
                for each in range(3):
                    report(each)
            case "remember":
                report(len(done))
            case "refuse":
                raise ConfigurationError("the lens is dirty")
            case "break":
                raise ZeroDivisionError("two\nlines")
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "leave":
                os._exit(7)
            case "hang":
                report(1)
                time.sleep(600)

    return work


def make_nothing() -> Callable[[str, Report], None]:
    raise ConfigurationError("there is no bench")
