"""The command `ams-server`: one of the two places that know the whole road."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Sequence

import torch

from ams_common.classes import ClassSet
from ams_common.clock import Clock, SystemClock
from ams_common.command_line import flag
from ams_common.errors import ConfigurationError, reported
from ams_common.events import EventLog
from ams_common.folder_lock import FolderLock
from ams_common.settings import configure_logging, home_expanded, load_settings, run_command
from ams_server.admin import admin_service
from ams_server.allotment import UNLIMITED, Allotment, CapConfig, describe
from ams_server.backend import DeviceBackend, checkpoint_store
from ams_server.buffer import BUFFER_BYTES
from ams_server.checkpoint_writer import CheckpointWriter
from ams_server.device_budget import require_workable
from ams_server.learners.factory import buffer_capacity, shortest_update_interval_s
from ams_server.scheduler import Scheduler
from ams_server.service import require_free, serve
from ams_server.settings import ServerSettings
from ams_server.starting_model import starting_model, student_classes, warn_of_random_start
from ams_server.teachers.factory import create_teacher
from ams_server.trainer import compute_dtype

_log = logging.getLogger(__name__)


def main() -> int:
    """Serve until SIGTERM or SIGINT."""
    return run_command(run)


def run(arguments: Sequence[str]) -> int:
    """Serve with these command-line arguments; return the exit status.

    Raises:
        AmsError: what a person must mend, in one line.
    """
    settings = load_settings(ServerSettings, arguments)
    configure_logging(settings.verbose)
    clock = SystemClock()
    with contextlib.closing(EventLog(settings.events, clock)) as events:
        asyncio.run(Daemon(settings, events, clock).run())
    return 0


class Daemon:
    """Teacher, starting model, worker and service of one process."""

    def __init__(self, settings: ServerSettings, events: EventLog, clock: Clock) -> None:
        """Load everything, so that whatever is wrong shows before the first device comes.

        Raises:
            AmsError: a setting, a file or a model cannot be used.
        """
        self._settings = settings
        self._events = events
        self._clock = clock
        # Models take a while to load; who has to choose another port or class should not wait for them.
        require_free(settings.listen, "--listen")
        if settings.admin_listen is not None:
            require_free(settings.admin_listen, "--admin-listen")
        require_useful_caps(settings)
        classes = student_classes(settings)
        warn_of_short_buffer(settings)
        warn_of_random_start(settings)
        device = choose_device(settings.device)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        dtype = compute_dtype(settings.precision, device)
        teacher = create_teacher(settings, device, None if dtype == torch.float32 else dtype)
        check_teachable(teacher.classes, classes)
        model = starting_model(settings)
        _log.info(
            "%s learns from %s on %s in %s: %d parameters, classes %s",
            *(settings.student, settings.teacher, device, str(dtype).removeprefix("torch.")),
            *(model.manifest.layout.trainable_size, ", ".join(model.manifest.classes.names)),
        )
        self._failure: BaseException | None = None
        self._lock = _locked(settings)
        self._checkpoints = CheckpointWriter(checkpoint_store(settings, model), clock)
        self._scheduler = Scheduler(self._events, self._on_failure, self._clock, self._checkpoints.offer)
        self._backend = DeviceBackend(
            settings,
            model,
            teacher=teacher,
            device=device,
            scheduler=self._scheduler,
            clock=self._clock,
            checkpoints=self._checkpoints,
        )

    async def run(self) -> None:
        """Serve until a signal comes or the worker fails.

        What ended the worker is raised: the process must end too, so that whoever supervises it starts a new one.

        Raises:
            ConfigurationError: the address cannot be listened on.
            AmsError: the worker has failed.
        """
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            self._loop.add_signal_handler(number, self._stop.set)
        self._scheduler.start()
        self._checkpoints.start()
        try:
            async with admin_service(self._settings.admin_listen, self._backend):
                await serve(self._settings, self._backend, stop=self._stop, clock=self._clock, on_bound=self._on_bound)
        finally:
            await asyncio.to_thread(self._scheduler.stop)
            self._backend.keep_sessions()
            await asyncio.to_thread(self._checkpoints.stop)
            if self._lock is not None:
                self._lock.close()
        if isinstance(self._failure, Exception):
            raise reported("the worker", self._failure)
        if self._failure is not None:
            raise self._failure

    def _on_bound(self, port: int) -> None:
        self._events.write("listening", port=port)

    def _on_failure(self, error: BaseException) -> None:
        self._failure = error
        self._loop.call_soon_threadsafe(self._stop.set)


def _locked(settings: ServerSettings) -> FolderLock | None:
    """Take the folder of the sessions, in which another server would delete some of them.

    Raises:
        ConfigurationError: another server has it, or it cannot be written.
    """
    if settings.state_folder is None:
        return None
    folder = home_expanded(settings.state_folder)
    return FolderLock(folder, f"another ams-server uses --state-folder {str(folder)!r}: give each a folder of its own")


def check_teachable(teacher: ClassSet, student: ClassSet) -> None:
    """Warn of classes that the teacher never names: the student cannot learn them.

    Raises:
        ConfigurationError: the teacher names none of the student's classes.
    """
    unknown = [name for name, rows in zip(student.names, student.source_rows(teacher), strict=True) if not rows]
    if len(unknown) == len(student):
        raise ConfigurationError(
            f"the teacher names none of the classes {', '.join(unknown)}: it has {', '.join(teacher.names)}; "
            "choose others with --class-set and --classes, or another teacher"
        )
    if unknown:
        _log.warning("the teacher never names %s: the student cannot learn what it looks like", ", ".join(unknown))


def require_useful_caps(settings: ServerSettings) -> None:
    """Refuse caps that leave too little for a device that is alone.

    Raises:
        ConfigurationError: the message names the least.
    """
    most = Allotment(settings).preview("any", UNLIMITED)
    try:
        require_workable(most, shortest_update_interval_s(settings))
    except ConfigurationError as error:
        caps = [f"{flag(name)} {getattr(settings, name):g}" for name in CapConfig.model_fields if getattr(settings, name)]
        raise ConfigurationError(f"with {' '.join(caps)} a device has {describe(most)}: {error}") from error


def warn_of_short_buffer(settings: ServerSettings) -> None:
    """Warn where a device's training buffer cannot hold all frames of the horizon at the highest sampling rate."""
    frames = buffer_capacity(settings)
    held_s = frames / settings.max_sampling_hz
    if settings.scheme == "ams" and held_s < settings.horizon_s:
        _log.warning(
            "training looks back %.0f s instead of horizon_s=%g where max_sampling_hz=%g is reached: "
            "%d frames of %dx%d are what %d MiB for a device hold",
            *(held_s, settings.horizon_s, settings.max_sampling_hz),
            *(frames, settings.student_width, settings.student_height, BUFFER_BYTES >> 20),
        )


def choose_device(name: str) -> torch.device:
    """Return the device to compute on; "auto" takes a GPU where there is one.

    Raises:
        ConfigurationError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigurationError(f"cannot compute on device {name!r}: {reason}") from error
    return device
