"""The default student with random weights, and random updates of it."""

import numpy as np

from ams_common.classes import CITYSCAPES19
from ams_common.layout import weights_digest
from ams_common.messages import Update
from ams_common.model_file import StoredModel
from ams_common.sparse_update import apply_update
from ams_common.update_codec import DEFAULT_CODEC, create_codec
from ams_server.students.config import StudentConfig
from ams_server.students.export import build_manifest, student_vector
from ams_server.students.factory import create_student

FRACTION = 0.05
"""Part of the trainable parameters that an update changes."""


def random_model() -> StoredModel:
    """Return the default student with random weights as version 0."""
    config = StudentConfig()
    module = create_student(config, CITYSCAPES19, seed=0)
    manifest, graph = build_manifest(
        config.student, module, CITYSCAPES19, width=config.student_width, height=config.student_height
    )
    vector = student_vector(module)
    return StoredModel(manifest=manifest, graph=graph, vector=vector, version=0, weights_digest=weights_digest(vector))


def random_update(base: StoredModel, rng: np.random.Generator) -> Update:
    """Return an update that changes 5 % of the trainable parameters of `base` a little."""
    layout = base.manifest.layout
    indices = np.sort(rng.choice(layout.trainable_size, round(FRACTION * layout.trainable_size), replace=False))
    target = base.vector.copy()
    target[indices] += rng.normal(0, 1e-3, indices.size).astype(np.float32)
    codec = create_codec(DEFAULT_CODEC, layout)
    payload = codec.encode(base.vector, target, indices)
    return Update(
        version=base.version + 1,
        base_version=base.version,
        base_digest=base.weights_digest,
        result_digest=weights_digest(apply_update(base.vector, codec.decode(payload, base.vector))),
        codec=DEFAULT_CODEC,
        payload=payload,
    )
