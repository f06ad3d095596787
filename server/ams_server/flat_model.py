"""A torch module whose whole state is one flat vector, and whose gradients are another.

P: elements of the layout. N: its trainable elements, the leading part.
"""

import numpy as np
import torch
from torch import Tensor, nn

from ams_common.errors import ModelError
from ams_common.layout import Float32Array, ParameterLayout


class FlatModel:
    """A module whose parameters and running statistics are views of `weights`, and whose gradients are views of `gradients`.

    Optimisers and the update codec work on the flat tensors; nothing is ever gathered or copied for them. The module is in
    evaluation mode, so that batch norm is frozen.
    """

    def __init__(self, module: nn.Module, layout: ParameterLayout, device: torch.device | str = "cpu") -> None:
        """Move `module` to `device` and make its tensors views; the module keeps its values.

        Raises:
            ModelError: `layout` names a tensor that the module lacks, gives another shape, or leaves out a trainable parameter.
        """
        self.module = module.to(device).eval()
        self.layout = layout
        self.device = torch.device(device)
        self.weights: Tensor = torch.empty(layout.size, device=device)
        """float32 [P] on `device`: trainable parameters, then running statistics."""
        self.gradients: Tensor = torch.zeros(layout.trainable_size, device=device)
        """float32 [N] on `device`: what backward passes add to."""
        _check_complete(module, layout)
        self._attach()

    @property
    def trainable_weights(self) -> Tensor:
        """View float32 [N] of the part that optimisers move."""
        return self.weights[: self.layout.trainable_size]

    def vector(self) -> Float32Array:
        """Return a copy of the whole state as float32 [P]."""
        vector: Float32Array = self.weights.to("cpu", copy=True).numpy()
        return vector

    def load(self, vector: Float32Array) -> None:
        """Overwrite the whole state with `vector`, float32 [P].

        Raises:
            ModelError: `vector` has another length or holds a number that is not finite; the state stays as it was.
        """
        if vector.shape != (self.layout.size,):
            raise ModelError(f"vector of shape {vector.shape} does not fit a model of {self.layout.size} elements")
        if not np.isfinite(vector).all():
            raise ModelError("weights hold a number that is not finite")
        self.weights.copy_(torch.tensor(vector))

    def _attach(self) -> None:
        tensors = _state(self.module)
        for spec, start in zip(self.layout.tensors, self.layout.offsets, strict=True):
            tensor = tensors.get(spec.name)
            if tensor is None or tensor.shape != spec.shape:
                found = "none" if tensor is None else f"one of shape {tuple(tensor.shape)}"
                raise ModelError(f"layout has the tensor {spec.name!r} of shape {spec.shape}, the model has {found}")
            view = self.weights[start : start + spec.size].view(spec.shape)
            view.copy_(tensor.detach())
            tensor.data = view
            if spec.trainable:
                tensor.grad = self.gradients[start : start + spec.size].view(spec.shape)


def _state(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_buffers()), **dict(module.named_parameters())}


def _check_complete(module: nn.Module, layout: ParameterLayout) -> None:
    trainable = {spec.name for spec in layout.tensors if spec.trainable}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad and name not in trainable:
            raise ModelError(f"layout leaves out the trainable parameter {name!r}")
