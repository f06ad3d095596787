"""A film whose labels are known: a bright upper and a dark lower part, with a border that moves."""

from pathlib import Path

import av
import numpy as np

from ams_common.classes import STREET7, UInt8Array

WIDTH, HEIGHT = 96, 64
SKY, ROAD = STREET7.names.index("sky"), STREET7.names.index("road")


def scene_labels(index: int) -> UInt8Array:
    """Return the labels of a frame in class set street7, uint8 [HEIGHT, WIDTH]."""
    border = 24 + 12 * np.sin(index / 7 + np.arange(WIDTH) / 20)
    return np.where(np.arange(HEIGHT)[:, None] < border, SKY, ROAD).astype(np.uint8)


def write_scene(video: Path, labels: Path, *, frames: int, rate_hz: int) -> None:
    """Write the film to `video` and its labels to `labels`, an npz of uint8 [frames, HEIGHT, WIDTH]."""
    generator = np.random.default_rng(3)
    all_labels = np.stack([scene_labels(index) for index in range(frames)])
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=rate_hz, options={"crf": "18", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for label in all_labels:
            image = np.where((label == SKY)[..., None], [150, 190, 230], [70, 70, 80])
            noisy = (image + generator.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(stream.encode())
    np.savez_compressed(labels, labels=all_labels)
