"""The model from which every device starts, and the session of a device that does."""

import copy
import logging
from dataclasses import dataclass

import torch
from torch import nn

from ams_common.classes import ClassSet, load_class_set
from ams_common.clock import Clock
from ams_common.messages import ModelManifest
from ams_common.update_codec import create_codec
from ams_server.device_budget import DeviceBudget
from ams_server.edge_session import EdgeSession
from ams_server.flat_model import FlatModel
from ams_server.frame_size import FrameSize
from ams_server.learners.factory import create_learner
from ams_server.rounding import rounded_start
from ams_server.settings import AdaptationConfig
from ams_server.spending import Spending
from ams_server.students.export import build_manifest
from ams_server.students.factory import create_student
from ams_server.teachers.base import Teacher

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class StartingModel:
    """The model from which every device starts."""

    module: nn.Module
    """Copied for each device."""
    manifest: ModelManifest
    graph: bytes


def starting_model(settings: AdaptationConfig) -> StartingModel:
    """Make the student of `settings`, export it and check the export.

    Raises:
        ConfigurationError: an unknown student, class set or class, or a size the student cannot take.
        ModelError: the weights do not fit.
    """
    classes = student_classes(settings)
    module = create_student(settings, classes, settings.seed)
    size = (settings.student_width, settings.student_height)
    manifest, graph = build_manifest(settings.student, module, classes, width=size[0], height=size[1])
    model = FlatModel(module, manifest.layout)
    model.load(rounded_start(model.vector(), manifest.layout))
    return StartingModel(module=module, manifest=manifest, graph=graph)


def warn_of_random_start(settings: AdaptationConfig) -> None:
    """Warn where no weights are given: such a student shows noise until it has learnt."""
    if settings.student_weights is None:
        _log.warning(
            "the student starts from random numbers: what devices show means nothing until it has learnt for some minutes; "
            "--student-weights gives it pretrained ones"
        )


def student_classes(settings: AdaptationConfig) -> ClassSet:
    """Return the classes that the student tells apart.

    Raises:
        ConfigurationError: an unknown class set or class.
    """
    return load_class_set(settings.class_set).subset(settings.classes)


def new_session(
    settings: AdaptationConfig,
    model: StartingModel,
    *,
    teacher: Teacher,
    device: torch.device,
    clock: Clock,
    device_id: str,
    budget: DeviceBudget,
    codec: str,
) -> EdgeSession:
    """Return the session of a device that starts from `model` and is trained on `device`."""
    manifest = model.manifest
    update_codec = create_codec(codec, manifest.layout)
    flat = FlatModel(copy.deepcopy(model.module), manifest.layout, device)
    return EdgeSession(
        device_id=device_id,
        manifest=manifest,
        spending=Spending(
            budget,
            frame_size=FrameSize(settings, (manifest.width, manifest.height)),
            rate_control=settings,
            codec=update_codec,
            clock=clock,
        ),
        teacher=teacher,
        learner=create_learner(settings, flat, manifest),
        codec=update_codec,
        quantiser=settings,
        clock=clock,
    )
