"""What a server receives of frames that were encoded."""

from ams_common.classes import UInt8Array
from ams_common.messages import FrameBatch
from ams_common.video_codec import EncodedFrames, decode_frames


def received(encoded: EncodedFrames, width: int, height: int, video_codec: str) -> UInt8Array:
    """Return the decoded frames, RGB uint8 [kept, height, width, 3]."""
    batch = FrameBatch(
        batch_id=1,
        video_codec=video_codec,
        width=width,
        height=height,
        capture_times_us=encoded.kept,
        packets=encoded.packets,
    )
    return decode_frames(batch, max_pixels=width * height, max_frames=len(encoded.kept))
