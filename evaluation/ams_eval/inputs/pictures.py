"""Picture files."""

from contextlib import closing
from pathlib import Path

import av

from ams_common.errors import SourceError
from ams_edge.media import Media

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
"""Endings of the names of picture files, in lower case."""


def read_picture(path: Path) -> av.VideoFrame:
    """Return the picture in a PNG or JPEG file.

    Raises:
        SourceError: there is no such file, or no picture of a reasonable size in it.
    """
    if not path.is_file():
        raise SourceError(f"there is no picture {str(path)!r}")
    try:
        with closing(Media(str(path))) as media:
            picture = next(media.pictures(), None)
    except SourceError as error:
        raise SourceError(f"picture {str(path)!r} cannot be read") from error
    if picture is None:
        raise SourceError(f"picture {str(path)!r} is damaged")
    return picture
