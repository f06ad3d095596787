"""From settings to a learner."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ams_common.messages import ModelManifest
from ams_server.buffer import TrainingBuffer, capacity_for
from ams_server.flat_model import FlatModel
from ams_server.learners.ams import AmsLearner
from ams_server.learners.base import Learner
from ams_server.learners.just_in_time import JustInTimeLearner
from ams_server.learners.novelty import Novelty
from ams_server.pacing import PacingController
from ams_server.sampling import SamplingController
from ams_server.settings import AdaptationConfig
from ams_server.trainer import Trainer
from ams_server.training_config import TrainingConfig

LEARNING_RATE = 1e-3
"""A tenth of the paper's. With its 0.01 the demo's JITNet, whose batch norm is frozen, is lost where it cannot reach the wanted
accuracy: 21 % mIoU on the drawn street in the rain at jit_accuracy=0.8, against 73 % with 0.001 and 53 % without learning."""
LEARNING_RATE_UNNORMALISED = 3e-4
"""For students that nothing normalises: Google's mobile DeepLab models gain most with it, lose with 0.001 in some seconds what
they knew, and with 0.01 on the first frame."""


def create_learner(settings: AdaptationConfig, model: FlatModel, manifest: ModelManifest) -> Learner:
    """Return the learner of `settings.scheme` for one device's `model`, described by `manifest`.

    Raises:
        ConfigurationError: the model's device cannot compute in the wanted precision.
    """
    size = (manifest.width, manifest.height)
    if settings.scheme == "jit":
        return JustInTimeLearner(
            trainer=Trainer(model, jit_training(settings, model), mean=manifest.mean, std=manifest.std),
            config=settings,
            classes=manifest.classes,
            size=size,
            loss_stride=settings.loss_stride,
        )
    trainer = Trainer(model, settings, mean=manifest.mean, std=manifest.std)
    return AmsLearner(
        trainer=trainer,
        buffer=TrainingBuffer(settings.horizon_s, buffer_capacity(settings), settings.recency_s),
        sampling=SamplingController(settings),
        pacing=PacingController(settings),
        size=size,
        novelty=Novelty(trainer) if settings.sampling_rule == "error" else None,
    )


def jit_training(settings: AdaptationConfig, model: FlatModel) -> TrainingConfig:
    """Return what the trainer of just-in-time distillation is told: gradient descent with a constant step size of its own."""
    usual = LEARNING_RATE if is_normalised(model.module) else LEARNING_RATE_UNNORMALISED
    constant = {"learning_rate": settings.jit_learning_rate or usual, "learning_rate_boost": 1.0, "sparsity_boost": 0.0}
    return settings.model_copy(update={"optimizer": "sgd", **constant})


def is_normalised(module: nn.Module) -> bool:
    """Tell whether batch norm has seen what it normalises; folded into the convolutions or fresh, a layer has one variance."""
    variances = [each.running_var for each in module.modules() if isinstance(each, _BatchNorm)]
    return any(each is not None and bool(each.min() < each.max()) for each in variances)


def buffer_capacity(settings: AdaptationConfig) -> int:
    """Return how many frames the training buffer of a device holds."""
    size = (settings.student_width, settings.student_height)
    return capacity_for(settings.horizon_s, settings.max_sampling_hz, width=size[0], height=size[1])


def shortest_update_interval_s(settings: AdaptationConfig) -> float:
    """Return the seconds from one update to the next that a device's budgets must carry."""
    if settings.scheme == "jit":
        return settings.jit_min_stride / settings.jit_camera_hz
    return settings.update_interval_s
