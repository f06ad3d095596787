"""A frame through the edge's model against ONNX Runtime alone on the same graph.

Compared are, on one thread and with the same random weights (deeplabv3-mobilenetv2, 512x256, 19 classes):

    bare   `session.run` of ONNX Runtime on a picture that is normalised already, to logits
    ours   `Model.logits`: an RGB picture normalised into the input, run, the logits copied out

so that the ratio holds all that we add to the network itself. Turning logits into labels, which every program needs in some
form, is printed apart, as is a whole frame from a camera's size to labels.
"""

import argparse
import time
from collections.abc import Callable

import av
import numpy as np

from ams_common.classes import CITYSCAPES19
from ams_edge.frame import Frame
from ams_edge.inference import build_model, probe_image
from ams_edge.providers import Backend
from ams_server.students.config import StudentConfig
from ams_server.students.export import build_manifest, student_vector
from ams_server.students.factory import create_student

CAMERA = (1280, 720)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=150)
    rounds = arguments.parse_args().rounds
    config = StudentConfig()
    module = create_student(config, CITYSCAPES19, seed=0)
    width, height = config.student_width, config.student_height
    manifest, graph = build_manifest(config.student, module, CITYSCAPES19, width=width, height=height)
    vector = student_vector(module)
    backend = Backend(provider="cpu", threads=1)
    model = build_model(manifest, graph, vector, backend)
    model.warm()
    session = backend.open_session(graph, {tensor.name: view for tensor, view in manifest.layout.views(vector)})
    image = probe_image(width, height)
    mean, std = np.array(manifest.mean), np.array(manifest.std)
    normalised = np.ascontiguousarray(((image - mean) / std).transpose(2, 0, 1)[None], np.float32)
    picture = av.VideoFrame.from_ndarray(probe_image(*CAMERA), format="rgb24").reformat(format="yuv420p")

    def camera_to_labels() -> object:
        return model.infer(Frame(picture, index=0, capture_time_s=0.0).rgb(width, height))

    bare_ms, ours_ms, labels_ms, camera_ms = medians_ms(
        rounds,
        lambda: session.run(["logits"], {"image": normalised}),
        lambda: model.logits(image),
        lambda: model.infer(image),
        camera_to_labels,
    )
    print(f"ONNX Runtime alone, picture normalised beforehand  {bare_ms:7.2f} ms")
    print(f"ours, picture to logits                            {ours_ms:7.2f} ms")
    print(f"ours, picture to labels                            {labels_ms:7.2f} ms")
    print(f"ours, {CAMERA[0]}x{CAMERA[1]} YUV of a camera to labels          {camera_ms:7.2f} ms")
    print(f"ratio {ours_ms / bare_ms:.3f}x")


def medians_ms(rounds: int, *functions: Callable[[], object]) -> list[float]:
    """Return the median duration of each function in milliseconds; the functions take turns."""
    durations_ms = np.empty((rounds, len(functions)))
    for row in durations_ms:
        for column, function in enumerate(functions):
            started_s = time.perf_counter()
            function()
            row[column] = 1000 * (time.perf_counter() - started_s)
    return [float(median) for median in np.median(durations_ms, axis=0)]


if __name__ == "__main__":
    main()
