"""Hugging Face models for semantic and for universal segmentation as teachers; needs the extra `zoo`.

Shapes: N images, C classes, Q mask queries, h and w sides of the masks.
"""

import colorsys
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ams_common.classes import ClassSet, SegmentationClass
from ams_common.errors import ConfigurationError, ModelError, first_line
from ams_server.teachers.network import IMAGENET_MEAN, IMAGENET_STD, RGB, InputSize, NetworkTeacher, identity_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig

_GOLDEN_RATIO = 0.618034


def huggingface_teacher(
    name: str, classes: ClassSet | None, size: InputSize, device: torch.device, autocast: torch.dtype | None
) -> NetworkTeacher:
    """Return the teacher `name`: a model of the hub, or a folder with config.json and safetensors weights.

    The classes are those that the model's configuration names (id2label) unless `classes` says otherwise.

    Raises:
        ConfigurationError: transformers is not installed.
        ModelError: there is no such model, it is of another task, or its safetensors weights are missing or incomplete.
    """
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise ConfigurationError(f"teacher hf:{name} needs transformers: install adaptive-model-streaming[zoo]") from error
    try:
        config = AutoConfig.from_pretrained(name)
        network = _load(name, config).to(device)
        pixels = _Pixels.of_model(name)
        infer = _Inference(network, _task_inputs(name, config, device), pixels.is_bgr, device, autocast)
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(f"teacher hf:{name} cannot be loaded: {first_line(error)}") from error
    known = classes or class_set_of_labels(name, _labels(config))
    identity = identity_of("hf", config.model_type, known.names, size, pixels, autocast, _state_digest(network))
    return NetworkTeacher(
        classes=known, identity=identity, infer=infer, size=size, device=device, mean=pixels.mean, std=pixels.std
    )


def class_set_of_labels(name: str, labels: list[str]) -> ClassSet:
    """Return the class set of a model's own labels, such as "Traffic Light" or "sidewalk, pavement".

    The first of several words names the class, the others are accepted for it; a name that occurs twice gets its number.
    """
    classes: list[SegmentationClass] = []
    taken: set[str] = set()
    for number, label in enumerate(labels):
        first, *others = [re.sub(r"[\s_]+", "-", word.strip().lower()) for word in re.split("[,;]", label)]
        unique = first if first and first not in taken else f"{first or 'label'}-{number}"
        taken.add(unique)
        classes.append(SegmentationClass(name=unique, colour=_colour(number), accepts=tuple(filter(None, others))))
    return ClassSet(name, tuple(classes))


@dataclass(frozen=True, kw_only=True)
class _Pixels:
    """What a model expects of its pixels."""

    mean: RGB
    std: RGB
    is_bgr: bool

    @staticmethod
    def of_model(name: str) -> "_Pixels":
        """Read preprocessor_config.json; a model without one was trained with the statistics of ImageNet."""
        from transformers.image_processing_utils import BaseImageProcessor

        try:
            settings, _ = BaseImageProcessor.get_image_processor_dict(name)
        except OSError:
            return _Pixels(mean=IMAGENET_MEAN, std=IMAGENET_STD, is_bgr=False)
        unit = 1 / settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
        is_normalised = settings.get("do_normalize", "image_mean" in settings)
        mean = settings["image_mean"] if is_normalised else (0.0, 0.0, 0.0)
        std = settings["image_std"] if is_normalised else (1.0, 1.0, 1.0)
        return _Pixels(mean=_times(mean, unit), std=_times(std, unit), is_bgr=bool(settings.get("do_flip_channel_order")))


@dataclass(frozen=True)
class _Inference:
    network: nn.Module
    task_inputs: dict[str, Tensor]
    is_bgr: bool
    device: torch.device
    autocast: torch.dtype | None

    def __call__(self, images: Tensor) -> Tensor:
        """Map normalised RGB, float32 [N, 3, h, w], to scores [N, C, any, any]."""
        pixels = images.flip(1) if self.is_bgr else images
        task = {key: value.expand(len(images), -1) for key, value in self.task_inputs.items()}
        with torch.autocast(self.device.type, self.autocast, enabled=self.autocast is not None):
            output = self.network(pixel_values=pixels, **task)
        if "class_queries_logits" in output:
            return class_scores(output["class_queries_logits"], output["masks_queries_logits"])
        scores: Tensor = output["logits"]
        if scores.ndim != 4:
            raise ModelError(f"output of shape {tuple(scores.shape)} is no segmentation")
        return scores


def class_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Return scores [N, C, h, w] of query logits [N, Q, C + 1], the last for "no object", and mask logits [N, Q, h, w].

    A pixel's score for a class is the sum over queries of class probability times mask probability (Cheng et al.,
    "Per-Pixel Classification is Not All You Need for Semantic Segmentation", 2021, section 3.4).
    """
    probabilities = class_logits.float().softmax(dim=-1)[..., :-1]
    return torch.einsum("nqc,nqhw->nchw", probabilities, mask_logits.float().sigmoid())


def _load(name: str, config: "PretrainedConfig") -> nn.Module:
    from transformers import AutoModelForSemanticSegmentation, AutoModelForUniversalSegmentation
    from transformers.models.auto import modeling_auto

    if config.model_type in modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES:
        auto_class: Any = AutoModelForSemanticSegmentation
    elif config.model_type in modeling_auto.MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES:
        auto_class = AutoModelForUniversalSegmentation
    else:
        raise ValueError(f"{config.model_type!r} is not a model for semantic or universal segmentation")
    network, report = auto_class.from_pretrained(name, config=config, use_safetensors=True, output_loading_info=True)
    if report["missing_keys"]:
        raise ValueError(f"weights lack {min(report['missing_keys'])!r}")
    assert isinstance(network, nn.Module)
    return network.float().eval()


def _task_inputs(name: str, config: "PretrainedConfig", device: torch.device) -> dict[str, Tensor]:
    """Return what OneFormer has to be told besides the image: a sentence that names the task."""
    if config.model_type != "oneformer":
        return {}
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(name)
    tokens = tokenizer(
        "the task is semantic", padding="max_length", max_length=config.task_seq_len, truncation=True, return_tensors="pt"
    )
    return {"task_inputs": (tokens["input_ids"] * tokens["attention_mask"]).to(device)}


def _labels(config: "PretrainedConfig") -> list[str]:
    names: Any = config.id2label or {}
    return [str(names.get(number, "")) for number in range(config.num_labels or 0)]


def _times(values: RGB, unit: float) -> RGB:
    red, green, blue = values
    return red * unit, green * unit, blue * unit


def _colour(number: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(number * _GOLDEN_RATIO % 1.0, 0.6, 0.9)
    return round(255 * red), round(255 * green), round(255 * blue)


def _state_digest(network: nn.Module) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
