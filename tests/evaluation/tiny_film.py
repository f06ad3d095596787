"""A film of a few seconds with a teacher's labels, and flags with which an experiment on it takes a fraction of a second."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from tests.evaluation import replays
from tests.evaluation.replays import truth
from tests.server.session_support import HEIGHT, WIDTH, picture

RATE_HZ = 5


def write_film(folder: Path, name: str = "film", *, seconds: int = 6) -> Path:
    """Write a video whose pictures are those of `replays.film`, and what they show beside it as NAME.npz."""
    video = folder / f"{name}.mp4"
    frames = range(RATE_HZ * seconds)
    with av.open(str(video), "w") as output:
        stream = output.add_stream("libx264", rate=RATE_HZ, options={"preset": "ultrafast", "crf": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in frames:
            image = av.VideoFrame.from_ndarray(picture(replays.border_at(index)), format="rgb24")
            image.pts, image.time_base = index, Fraction(1, RATE_HZ)
            output.mux(stream.encode(image))
        output.mux(stream.encode())
    np.savez(folder / f"{name}.npz", labels=np.stack([truth(index) for index in frames]))
    return video


def settings_for(video: Path) -> dict[str, object]:
    """Return settings for the film and its teacher, by their names."""
    classes = video.with_suffix(".toml")
    classes.write_text(
        'name = "film"\n[[classes]]\nname = "road"\ncolour = [90, 90, 90]\n[[classes]]\nname = "sky"\ncolour = [40, 90, 220]\n',
        encoding="utf-8",
    )
    return {
        "teacher": f"labels:{video.with_suffix('.npz')}",
        "teacher_classes": str(classes),
        "teacher_labels_hz": RATE_HZ,
        "student": "jitnet-quarter",
        "student_width": WIDTH,
        "student_height": HEIGHT,
        "class_set": "street7",
        "classes": ["road", "sky"],
        "steps": 2,
        "batch_size": 2,
        "update_interval_s": 2.0,
        "precision": "fp32",
        "device": "cpu",
        "threads": 1,
        "label_cache": "none",
    }


def flags(settings: dict[str, object]) -> list[str]:
    """Return settings as a command line."""
    texts = {name: ",".join(value) if isinstance(value, list) else value for name, value in settings.items()}
    return [f"--{name.replace('_', '-')}={text}" for name, text in texts.items()]
