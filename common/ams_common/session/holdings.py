"""What an edge keeps when it opens a stream, for the server to build on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ams_common.layout import Float32Array


@dataclass(frozen=True, kw_only=True)
class Holdings:
    """Graphs and whole vectors by their digests, which the hello tells; newest first."""

    graphs: Mapping[bytes, bytes] = field(default_factory=dict)
    """Serialised ONNX graphs without weights, by graph digest."""
    weights: Mapping[bytes, Callable[[], Float32Array]] = field(default_factory=dict)
    """Functions that return whole vectors, float32 [P], which must not be written to, by weights digest."""
