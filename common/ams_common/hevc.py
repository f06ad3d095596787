"""The little of HEVC (ITU-T H.265, sections 7.3 and B.2) to know before a decoder is let loose on bytes from outside."""

from ams_common.bits import BitReader, PictureSize, require
from ams_common.nal_units import NalSyntax, payload_bits

NAL_TRAIL_N, NAL_TRAIL_R, NAL_IDR_W_RADL, NAL_IDR_N_LP, NAL_CRA = 0, 1, 19, 20, 21
NAL_VIDEO_PARAMETERS, NAL_SEQUENCE_PARAMETERS, NAL_PICTURE_PARAMETERS, NAL_DELIMITER, NAL_SEI = 32, 33, 34, 35, 39
_SLICES = frozenset({NAL_TRAIL_N, NAL_TRAIL_R, NAL_IDR_W_RADL, NAL_IDR_N_LP, NAL_CRA})
_ACCEPTED = _SLICES | {NAL_VIDEO_PARAMETERS, NAL_SEQUENCE_PARAMETERS, NAL_PICTURE_PARAMETERS, NAL_DELIMITER, NAL_SEI}
_MAX_REFERENCE_FRAMES = 16
_HEAD_BYTES = 128
"""More than the fields up to the number of reference frames can take; the rest of a parameter set is not looked at."""
_PROFILE_BITS = 96
"""profile_tier_level of a stream with one temporal layer."""


def nal_type(unit: bytes) -> int:
    """Return nal_unit_type, 0..63; 63, which stands for nothing, for a unit of another layer or without a whole header."""
    if len(unit) < 2 or unit[0] & 129 or unit[1] >> 3:
        return 63
    return unit[0] >> 1


def starts_picture(unit: bytes) -> bool:
    """Tell whether a slice segment is the first of its picture, as the first bit of its header says."""
    return len(unit) > 2 and unit[2] >= 128


def parse_picture_size(unit: bytes) -> PictureSize:
    """Read a sequence parameter set as far as the size of pictures and the number of them that a decoder keeps.

    8-bit 4:2:0 video with one temporal layer is accepted.

    Raises:
        CodecError: the unit is cut short, or asks for something else.
    """
    bits = BitReader(payload_bits(unit[2:_HEAD_BYTES]))
    bits.unsigned(4)  # sps_video_parameter_set_id
    require(bits.unsigned(3) == 0, "several temporal layers")
    bits.unsigned(1)  # sps_temporal_id_nesting_flag
    bits.unsigned(_PROFILE_BITS)
    bits.exp_golomb()  # sps_seq_parameter_set_id
    require(bits.exp_golomb() == 1, "a chroma format other than 4:2:0")
    coded_width, coded_height = bits.exp_golomb(), bits.exp_golomb()
    left, right, top, bottom = [bits.exp_golomb() for _ in range(4)] if bits.unsigned(1) else [0] * 4
    require(bits.exp_golomb() == 0 and bits.exp_golomb() == 0, "more than 8 bits a sample")
    bits.exp_golomb()  # log2_max_pic_order_cnt_lsb_minus4
    bits.unsigned(1)  # sps_sub_layer_ordering_info_present_flag
    require(bits.exp_golomb() < _MAX_REFERENCE_FRAMES, "more than 16 reference frames")
    return PictureSize(
        width=coded_width - 2 * (left + right),
        height=coded_height - 2 * (top + bottom),
        coded_width=coded_width,
        coded_height=coded_height,
    )


SYNTAX = NalSyntax(
    accepted=_ACCEPTED,
    slices=_SLICES,
    note=NAL_SEI,
    parameters=NAL_SEQUENCE_PARAMETERS,
    kind_of=nal_type,
    starts_picture=starts_picture,
    parse_picture_size=parse_picture_size,
)
"""What the units of HEVC are."""
