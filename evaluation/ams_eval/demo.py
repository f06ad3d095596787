"""The demo: a real server and a real edge on this machine, and a report of what came of it."""

import contextlib
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from rich.console import Console

from ams_common.clock import Clock, SystemClock
from ams_common.errors import ConfigurationError, system_reason
from ams_common.settings import CommandSettings, load_settings
from ams_edge.inference import Model, build_model
from ams_edge.providers import choose_backend
from ams_edge.runtime_config import RuntimeConfig
from ams_eval.demo_recording import Recording, own_recording, street_recording
from ams_eval.demo_settings import DemoSettings, check_settings, command_flags, edge_settings, server_settings
from ams_eval.judging import Judgement, judge, read_index, street_labels
from ams_eval.live import Budgets, LiveView, Progress
from ams_eval.processes import ChildProcess, child_process, termination_as_exit
from ams_eval.report.page import write_report
from ams_eval.result import DemoResult, Numbers, count_numbers, draw_tables, write_json
from ams_eval.run_log import EventTail, named, read_run
from ams_eval.world.stream import DEMO_STREAM
from ams_server.daemon import choose_device
from ams_server.settings import ServerSettings
from ams_server.starting_model import starting_model, student_classes
from ams_server.students.export import student_vector
from ams_server.teachers.factory import create_teacher
from ams_server.trainer import compute_dtype

POLL_S = 0.25
_SERVER = "import sys; sys.argv[0] = 'ams-server'; from ams_server.daemon import main; raise SystemExit(main())"
_EDGE = "import sys; sys.argv[0] = 'ams-edge'; from ams_edge.command import main; raise SystemExit(main())"
_PACKAGES = ("adaptive-model-streaming", "torch", "onnxruntime", "av", "grpcio", "numpy")


class Paths(NamedTuple):
    """Files of a demo."""

    out: Path
    scratch: Path
    """Removed at the end."""

    @property
    def labels(self) -> Path:
        """What the edge showed."""
        return self.scratch / "labels"

    def events(self, side: str) -> Path:
        """Event log of "server" or "edge"."""
        return self.out / f"{side}-events.jsonl"

    def log(self, side: str) -> Path:
        """Ordinary log of "server" or "edge"."""
        return self.out / f"{side}.log"


class Played(NamedTuple):
    """A run of server and edge that is over."""

    edge_run_s: float
    commands: tuple[str, ...]


def run(arguments: Sequence[str]) -> int:
    """Run the demo with these command-line arguments; return the exit status.

    Raises:
        AmsError: what a person must mend.
    """
    settings = load_settings(DemoSettings, arguments)
    check_settings(settings)
    console, clock = Console(), SystemClock()
    started_s = clock.now_s()
    with termination_as_exit(), _folders(settings.out) as paths:
        recording = _recording(settings, paths.out)
        server = server_settings(settings, recording.shape, paths.events("server"))
        played = play(settings, recording, server, paths, console, clock)
        with _step(console, "scoring what the edge showed"):
            judgement = _judge(recording, server, paths.labels)
        result = _result(settings, recording, server, judgement, played, paths)
    numbers = count_numbers(result)
    report = _write(result, numbers, paths.out)
    console.print(draw_tables(result, numbers))
    console.print(f"report  {report.resolve()}\nnumbers {(paths.out / 'demo.json').resolve()}", soft_wrap=True, highlight=False)
    console.print(f"{clock.now_s() - started_s:.0f} s in all", highlight=False)
    return 0


def play(
    settings: DemoSettings, recording: Recording, server: ServerSettings, paths: Paths, console: Console, clock: Clock
) -> Played:
    """Prepare the recording and play it through a server and an edge, with live progress.

    Raises:
        ProcessFailedError: one of them failed.
    """
    server_command = _command(_SERVER, server)
    paths.events("server").unlink(missing_ok=True)
    with child_process("ams-server", server_command, paths.log("server")) as server_process:
        if recording.street is not None:
            with _step(console, "drawing a street of 100 s: day, dusk, rain, another district"):
                recording.prepare()
        with _step(console, "starting server and edge"):
            port = _await_port(server_process, paths.events("server"), clock)
        edge = edge_settings(
            settings,
            recording.path,
            f"127.0.0.1:{port}",
            labels=paths.labels,
            state_folder=paths.scratch / "edge-state",
            events=paths.events("edge"),
        )
        paths.events("edge").unlink(missing_ok=True)
        started_s = clock.now_s()
        with child_process("ams-edge", _command(_EDGE, edge), paths.log("edge")) as edge_process:
            progress = Progress(recording.duration_s, _budgets(settings))
            last_s = watch(
                edge_process, server_process, paths.events("edge"), LiveView(console, progress, clock), progress, clock
            )
    commands = (f"ams-server {shlex.join(command_flags(server))}", f"ams-edge {shlex.join(command_flags(edge))}")
    return Played(edge_run_s=last_s - started_s, commands=commands)


def watch(
    edge: ChildProcess, server: ChildProcess, edge_events: Path, view: LiveView, progress: Progress, clock: Clock
) -> float:
    """Show progress until the edge has ended; return the clock's time of that.

    Raises:
        ProcessFailedError: edge or server failed.
    """
    tail = EventTail(edge_events)
    with view:
        while not edge.finished():
            server.require_running()
            progress.take(tail.read())
            view.refresh()
            clock.sleep(POLL_S)
    return clock.now_s()


def _command(code: str, settings: CommandSettings) -> list[str]:
    return [sys.executable, "-c", code, *command_flags(settings)]


def _await_port(server: ChildProcess, events: Path, clock: Clock) -> int:
    tail = EventTail(events)
    while not (listening := named(tail.read(), "listening")):
        server.require_running()
        clock.sleep(POLL_S)
    return int(listening[0]["port"])


@contextlib.contextmanager
def _folders(out: Path) -> Iterator[Paths]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        scratch = TemporaryDirectory(prefix="run-", dir=out)
    except OSError as error:
        raise ConfigurationError(f"cannot write --out {str(out)!r}: {system_reason(error)}") from error
    with scratch as folder:
        yield Paths(out, Path(folder))


def _recording(settings: DemoSettings, out: Path) -> Recording:
    return street_recording(DEMO_STREAM, out) if settings.video is None else own_recording(settings.video)


def _budgets(settings: DemoSettings) -> Budgets:
    return Budgets(settings.uplink_kbps, settings.downlink_kbps)


@contextlib.contextmanager
def _step(console: Console, what: str) -> Iterator[None]:
    """Say what is being done; on a terminal something moves meanwhile."""
    if not console.is_terminal:
        console.print(what, highlight=False, soft_wrap=True)
        yield
        return
    with console.status(what):
        yield


def _judge(recording: Recording, server: ServerSettings, labels: Path) -> Judgement:
    if server.threads:
        torch.set_num_threads(server.threads)
    device = choose_device(server.device)
    dtype = compute_dtype(server.precision, device)
    teacher = create_teacher(server, device, None if dtype == torch.float32 else dtype)
    start = _start_model(server)
    exact = street_labels(recording.exact_labels, start.manifest.classes) if recording.exact_labels else None
    return judge(recording.path, read_index(labels), teacher, start, exact)


def _start_model(server: ServerSettings) -> Model:
    """Return the model as the server first sends it, on the runtime of the edge."""
    model = starting_model(server)
    return build_model(model.manifest, model.graph, student_vector(model.module), choose_backend(RuntimeConfig()))


def _result(
    settings: DemoSettings, recording: Recording, server: ServerSettings, judgement: Judgement, played: Played, paths: Paths
) -> DemoResult:
    return DemoResult(
        title=recording.title,
        classes=student_classes(server),
        phases=recording.phases,
        budgets=_budgets(settings),
        judgement=judgement,
        log=read_run(paths.events("edge"), paths.events("server")),
        edge_run_s=played.edge_run_s,
        commands=played.commands,
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
    )


def _write(result: DemoResult, numbers: Numbers, out: Path) -> Path:
    report = out / "report.html"
    try:
        write_json(result, numbers, out / "demo.json")
        write_report(result, numbers, report)
    except OSError as error:
        raise ConfigurationError(f"cannot write {str(report)!r}: {system_reason(error)}") from error
    return report
