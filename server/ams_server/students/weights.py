"""Reading and writing a network's weights as safetensors.

Three kinds of file load into a network of the same architecture:

- tensors under the network's own names, as `save_weights` writes them;
- the same with the batch counters of other tools, which are left out;
- batch norm folded into the convolutions: `layer.weight` and `layer.bias` for `layer.conv.weight` and `layer.norm.*`, as in
  Google's mobile DeepLab models. The batch norm then becomes the identity plus that bias.

The head, which is the network's last convolution, is translated from the file's class set to the network's by class name.
"""

import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ams_common.classes import BUILT_IN, ClassSet
from ams_common.errors import ModelError, first_line

_MISSING_CLASS_NOISE = 0.01
_OTHER_STUDENT = ": are they those of another --student?"


def load_pretrained(module: nn.Module, path: Path, source: ClassSet, target: ClassSet, *, seed: int = 0) -> None:
    """Fill `module`, a network for the classes of `target`, from a file whose head is for those of `source`.

    A class that `source` splits starts from the mean of its parts. A class that it lacks starts from the mean of all, which
    never wins against the best of them, plus noise drawn from `seed`.

    Raises:
        ModelError: the file cannot be read, or a tensor is missing, superfluous, of another shape or not finite; the module
            is then unchanged.
    """
    wanted = _state(module)
    head = [name for name in _head_tensors(module) if name in wanted]
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    shapes |= {name: (len(source), *shapes[name][1:]) for name in head}
    try:
        tensors = _read(path, module, shapes, head)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot read weights {str(path)!r}: {first_line(error)}") from error
    except ModelError as error:
        raise ModelError(f"weights {str(path)!r} do not fit the student: {error}") from error
    if source.names != target.names:
        generator = torch.Generator().manual_seed(seed)
        for name in head:
            tensors[name] = _translated_rows(tensors[name], target.source_rows(source), generator)
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(tensors[name])


def save_weights(module: nn.Module, path: Path) -> None:
    """Write the parameters and running statistics of `module` under their own names; the file appears whole or not at all.

    Raises:
        ModelError: the file cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in _state(module).items()}, partial)
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot write weights {str(path)!r}: {first_line(error)}") from error


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in module.state_dict(keep_vars=True).items() if tensor.is_floating_point()}


def _head_tensors(module: nn.Module) -> tuple[str, str]:
    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)]
    assert names, "a student ends in a convolution"
    return f"{names[-1]}.weight", f"{names[-1]}.bias"


def _read(path: Path, module: nn.Module, shapes: Mapping[str, tuple[int, ...]], head: Sequence[str]) -> dict[str, Tensor]:
    """Return a finite float32 tensor of each named shape; no data is read before all names and shapes are right."""
    with safe_open(path, framework="pt") as file:
        held = {name: tuple(file.get_slice(name).get_shape()) for name in list(file.keys())}
        folded = _folded_layers(held.keys() - shapes.keys(), shapes.keys())
        stored = {_own_name(name, folded): name for name in held if not name.endswith("num_batches_tracked")}
        implied = _identity_norms(module, folded)
        _check_names(stored, implied.keys(), shapes.keys())
        for name, alias in stored.items():
            if held[alias] != shapes[name]:
                hint = _head_hint(held[alias], shapes[name]) if name in head else ""
                raise ModelError(f"tensor {alias!r} has shape {held[alias]} instead of {shapes[name]}{hint}")
        tensors = {name: file.get_tensor(alias).float() for name, alias in stored.items()}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"tensor {stored[name]!r} holds values that are not finite")
    return implied | tensors


def _head_hint(held: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """Say what to do about a head for another number of classes; nothing where something else is wrong."""
    if not held or held[1:] != wanted[1:]:
        return ""
    fitting = [name for name, classes in BUILT_IN.items() if len(classes) == held[0]]
    example = f", {' or '.join(fitting)} for example" if fitting else ""
    return f": its head tells {held[0]} classes apart, name their class set with --student-weights-classes{example}"


def _check_names(stored: Mapping[str, str], implied: AbstractSet[str], wanted: AbstractSet[str]) -> None:
    missing, superfluous = wanted - stored.keys() - implied, stored.keys() - wanted
    if missing:
        raise ModelError(f"they lack the tensor {min(missing)!r}{_OTHER_STUDENT}")
    if superfluous:
        raise ModelError(f"they hold the foreign tensor {stored[min(superfluous)]!r}{_OTHER_STUDENT}")


def _folded_layers(foreign: AbstractSet[str], own: AbstractSet[str]) -> set[str]:
    layers = {name.removesuffix(".weight") for name in foreign if name.endswith(".weight")}
    return {layer for layer in layers if f"{layer}.conv.weight" in own}


def _own_name(stored: str, folded: set[str]) -> str:
    layer, _, kind = stored.rpartition(".")
    if layer not in folded:
        return stored
    return f"{layer}.conv.weight" if kind == "weight" else f"{layer}.norm.bias"


def _identity_norms(module: nn.Module, folded: set[str]) -> dict[str, Tensor]:
    """Return scale, mean and variance with which a batch norm only adds its bias; the bias itself is in the file."""
    tensors: dict[str, Tensor] = {}
    for layer in folded:
        norm = module.get_submodule(f"{layer}.norm")
        assert isinstance(norm, nn.BatchNorm2d)
        tensors[f"{layer}.norm.weight"] = torch.ones(norm.num_features)
        tensors[f"{layer}.norm.running_mean"] = torch.zeros(norm.num_features)
        tensors[f"{layer}.norm.running_var"] = torch.full((norm.num_features,), 1.0 - norm.eps)
    return tensors


def _translated_rows(rows: Tensor, sources: tuple[tuple[int, ...], ...], generator: torch.Generator) -> Tensor:
    average = rows.mean(0)
    translated = [rows[list(source)].mean(0) if source else average + _noise(average, generator) for source in sources]
    return torch.stack(translated)


def _noise(like: Tensor, generator: torch.Generator) -> Tensor:
    return _MISSING_CLASS_NOISE * torch.randn(like.shape, generator=generator)
