"""What others have published, to read results beside."""

from typing import NamedTuple


class PublishedRow(NamedTuple):
    """mIoU in per cent of the schemes on one data set, mean of windows of 10 s after the first 250 s."""

    dataset: str
    no_customisation: float
    one_time: float
    remote_tracking: float
    just_in_time: float
    ams: float
    ams_up_kbps: int
    """kbit/s, 1 kbit = 1024 bit."""
    ams_down_kbps: int
    just_in_time_up_kbps: int
    just_in_time_down_kbps: int


SOURCE = "Khani et al., Real-Time Video Inference on Edge Devices via Adaptive Model Streaming, ICCV 2021"
AMS_PAPER = (
    PublishedRow("Outdoor Scenes", 63.68, 69.73, 69.05, 73.14, 74.26, 189, 205, 2735, 3109),
    PublishedRow("A2D2", 62.05, 50.78, 63.25, 69.23, 69.31, 158, 203, 2487, 2872),
    PublishedRow("Cityscapes", 73.08, 63.90, 66.53, 75.75, 75.66, 164, 226, 2920, 3294),
    PublishedRow("LVS", 59.32, 64.88, 61.52, 65.70, 67.38, 165, 207, 2456, 3264),
)
"""The main table of the AMS paper."""
SHARES_BETTER = {"one-time": 0.67, "just-in-time": 0.82, "AMS": 0.93}
"""Share of frames better than without customisation, figure 5 of the AMS paper."""


class JustInTimeRow(NamedTuple):
    """JITNet at one threshold on Long Video Streams: 30 videos of 30 000 frames, Mask R-CNN as the teacher, one V100."""

    threshold: float
    miou: float
    """Against the teacher, in per cent."""
    speed_up: float
    """Over the teacher on every frame."""
    labelled: float
    """Frames that the teacher labelled, in per cent."""


JUST_IN_TIME_SOURCE = "Mullapudi et al., Online Model Distillation for Efficient Video Inference, ICCV 2019"
JUST_IN_TIME_PAPER = (
    JustInTimeRow(0.7, 75.5, 17.4, 3.2),
    JustInTimeRow(0.8, 78.6, 13.5, 4.7),
    JustInTimeRow(0.9, 82.5, 7.5, 8.4),
)
"""The line "overall" of table 2 of the just-in-time paper."""
