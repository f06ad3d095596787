from pathlib import Path

import pytest

from ams_common.earlier_outputs import set_aside
from ams_common.errors import ConfigurationError


def test_it_takes_the_first_name_that_is_free_and_follows_links(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    film, link = tmp_path / "disk" / "film.mp4", tmp_path / "link.mp4"
    film.parent.mkdir()
    film.write_bytes(b"new")
    film.with_name("film-1.mp4").write_bytes(b"old")
    link.symlink_to(film)
    set_aside(link, "--overlay")
    assert not film.exists()
    assert film.with_name("film-1.mp4").read_bytes() == b"old"
    assert film.with_name("film-2.mp4").read_bytes() == b"new"
    assert caplog.messages == [f"what was in {link} is now {film.with_name('film-2.mp4')}"]


def test_what_cannot_be_renamed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot keep what is in --events '.*' as '.*absent-1\.jsonl': no such"):
        set_aside(tmp_path / "absent.jsonl", "--events")
