"""NAL units and the start codes between them."""

from hypothesis import given
from hypothesis import strategies as st

from ams_common.nal_units import join_nal_units, split_nal_units

units = st.lists(st.binary(min_size=1, max_size=8).map(lambda data: b"\x65" + data.replace(b"\x00", b"\x01")), max_size=5)


@given(units, st.binary(max_size=3).map(lambda data: data.replace(b"\x01", b"\x00")))
def test_units_are_split_where_they_were_joined(units: list[bytes], before: bytes) -> None:
    assert split_nal_units(before + join_nal_units(units)) == units


def test_start_codes_of_four_bytes_and_trailing_zeros_are_no_part_of_a_unit() -> None:
    stream = b"\x00\x00\x00\x01\x67\x42\x00\x00\x00\x01\x68\xce\x00\x00\x00\x00\x01\x00\x00\x01\x65\x80"
    assert split_nal_units(stream) == [b"\x67\x42", b"\x68\xce", b"\x65\x80"]
    assert split_nal_units(b"") == split_nal_units(b"\x67\x42") == []
