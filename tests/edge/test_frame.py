from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest

from ams_edge.frame import Frame, UInt8Array


def noise(height: int, width: int) -> UInt8Array:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def test_image_of_an_array_is_that_array() -> None:
    image = noise(30, 50)
    frame = Frame(image, index=3, capture_time_s=0.5)
    assert (frame.index, frame.width, frame.height, frame.capture_time_us) == (3, 50, 30, 500_000)
    assert np.array_equal(frame.image, image)


def test_scaling_averages_the_area_under_each_pixel() -> None:
    image = noise(64, 128)
    means = image.reshape(16, 4, 32, 4, 3).mean(axis=(1, 3))
    scaled = Frame(image, index=0, capture_time_s=0.0).rgb(32, 16)
    assert scaled.shape == (16, 32, 3)
    assert scaled.dtype == np.uint8
    assert np.abs(scaled - means).max() < 2


def test_every_call_returns_an_array_of_its_own() -> None:
    frame = Frame(noise(8, 8), index=0, capture_time_s=0.0)
    first = frame.rgb(8, 8)
    first[:] = 0
    assert frame.rgb(8, 8).any()


def test_an_array_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="numpy array"):
        Frame(np.zeros((8, 8), np.uint8), index=0, capture_time_s=0.0)


def test_capture_time_rounds_to_the_nearest_microsecond() -> None:
    assert Frame(noise(2, 2), index=0, capture_time_s=0.1 + 0.2).capture_time_us == 300_000


def test_several_threads_scale_one_frame_alike() -> None:
    frame = Frame(noise(240, 320), index=0, capture_time_s=0.0)
    expected = frame.rgb(64, 48)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: frame.rgb(64, 48), range(64)))
    assert all(np.array_equal(result, expected) for result in results)


@pytest.mark.parametrize("full_range", [False, True])
def test_both_ranges_of_brightness_reach_white_and_black(full_range: bool) -> None:
    picture = av.VideoFrame(16, 16, "yuvj420p" if full_range else "yuv420p")
    lowest, highest = (0, 255) if full_range else (16, 235)
    luma = np.full((16, picture.planes[0].line_size), lowest, np.uint8)
    luma[8:] = highest
    picture.planes[0].update(luma.tobytes())
    for plane in picture.planes[1:]:
        plane.update(bytes([128]) * plane.buffer_size)
    image = Frame(picture, index=0, capture_time_s=0.0).image
    assert np.abs(image[:4].astype(int)).max() <= 1
    assert np.abs(image[12:].astype(int) - 255).max() <= 1


@pytest.mark.parametrize(
    ("degrees", "corner"), [(90, "bottom left"), (-90, "top right"), (180, "bottom right"), (0, "top left")]
)
def test_a_picture_that_a_phone_marked_as_turned_comes_upright(tmp_path: Path, degrees: int, corner: str) -> None:
    image = np.zeros((32, 64, 3), np.uint8)
    image[:16, :16] = 255
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10)
        if not hasattr(stream, "set_display_rotation"):
            pytest.skip("this PyAV cannot write a turned video")
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        stream.set_display_rotation(degrees)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode())
    with av.open(str(path)) as container:
        frame = Frame(next(container.decode(video=0)), index=0, capture_time_s=0.0)
    assert (frame.width, frame.height) == ((64, 32) if degrees in (0, 180) else (32, 64))
    upright = frame.image
    assert upright.shape == (frame.height, frame.width, 3)
    rows = slice(None, 16) if "top" in corner else slice(-16, None)
    columns = slice(None, 16) if "left" in corner else slice(-16, None)
    assert upright[rows, columns].mean() > 200
    assert upright.mean() < 60
