"""The little of H.264 (ITU-T H.264, sections 7.3 and B.1) to know before a decoder is let loose on bytes from outside."""

from ams_common.bits import BitReader, PictureSize, require
from ams_common.nal_units import NalSyntax, payload_bits

NAL_SLICE, NAL_IDR_SLICE, NAL_SEI, NAL_SEQUENCE_PARAMETERS, NAL_PICTURE_PARAMETERS, NAL_DELIMITER = 1, 5, 6, 7, 8, 9
_SLICES = frozenset({NAL_SLICE, NAL_IDR_SLICE})
_ACCEPTED = _SLICES | {NAL_SEI, NAL_SEQUENCE_PARAMETERS, NAL_PICTURE_PARAMETERS, NAL_DELIMITER}
_PROFILES_420_8BIT = {66, 77}
"""Baseline and main: 8 bits, 4:2:0, by definition."""
_PROFILE_HIGH = 100
_MAX_REFERENCE_FRAMES = 16
_HEAD_BYTES = 128
"""More than the fields up to the picture size can take; the rest of a parameter set is not looked at."""


def nal_type(unit: bytes) -> int:
    """Return nal_unit_type, 0..31."""
    return unit[0] & 31


def starts_picture(unit: bytes) -> bool:
    """Tell whether a slice is the first of its picture: first_mb_in_slice, the first field of its header, is 0."""
    return len(unit) > 1 and unit[1] >= 128


def parse_picture_size(unit: bytes) -> PictureSize:
    """Read a sequence parameter set as far as the picture size.

    Progressive 8-bit 4:2:0 video of the baseline, main and high profiles is accepted, without scaling matrices and without
    picture order count type 1: what the encoders of phones, cameras and x264 make.

    Raises:
        CodecError: the unit is cut short, or asks for something else.
    """
    bits = BitReader(payload_bits(unit[1:_HEAD_BYTES]))
    profile = bits.unsigned(8)
    bits.unsigned(16)  # constraint flags and level
    bits.exp_golomb()  # seq_parameter_set_id
    _check_format(profile, bits)
    bits.exp_golomb()  # log2_max_frame_num_minus4
    _skip_picture_order(bits)
    require(bits.exp_golomb() <= _MAX_REFERENCE_FRAMES, "more than 16 reference frames")
    bits.unsigned(1)  # gaps_in_frame_num_value_allowed_flag
    coded_width, coded_height = 16 * (bits.exp_golomb() + 1), 16 * (bits.exp_golomb() + 1)
    require(bits.unsigned(1) == 1, "interlaced video")
    bits.unsigned(1)  # direct_8x8_inference_flag
    left, right, top, bottom = [bits.exp_golomb() for _ in range(4)] if bits.unsigned(1) else [0] * 4
    return PictureSize(
        width=coded_width - 2 * (left + right),
        height=coded_height - 2 * (top + bottom),
        coded_width=coded_width,
        coded_height=coded_height,
    )


def _check_format(profile: int, bits: BitReader) -> None:
    if profile in _PROFILES_420_8BIT:
        return
    require(profile == _PROFILE_HIGH, f"profile {profile}")
    require(bits.exp_golomb() == 1, "a chroma format other than 4:2:0")
    require(bits.exp_golomb() == 0 and bits.exp_golomb() == 0, "more than 8 bits a sample")
    require(bits.unsigned(2) == 0, "lossless coding or scaling matrices")


def _skip_picture_order(bits: BitReader) -> None:
    order_type = bits.exp_golomb()
    require(order_type in (0, 2), f"picture order count type {order_type}")
    if order_type == 0:
        bits.exp_golomb()  # log2_max_pic_order_cnt_lsb_minus4


SYNTAX = NalSyntax(
    accepted=_ACCEPTED,
    slices=_SLICES,
    note=NAL_SEI,
    parameters=NAL_SEQUENCE_PARAMETERS,
    kind_of=nal_type,
    starts_picture=starts_picture,
    parse_picture_size=parse_picture_size,
)
"""What the units of H.264 are."""
