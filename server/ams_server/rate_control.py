"""How large the next update may be: its bytes, of what the budget brings, and the parameters that it may change.

What was sent beyond the budget is taken back from the next updates: an update that fits never waits for the budget, and a model
that comes later is worth less than one that comes coarser.
"""

from pydantic import Field

from ams_common.settings import PartConfig
from ams_common.sparse_update import UpdateCodec
from ams_server.wire_costs import largest_payload_bytes

UNLIMITED_PARAMETERS = 2**63 - 1
WORTHWHILE_UPDATE_BYTES = 4096
"""About a thousand parameters. With updates of 4.6 kB every 10 s a student kept 97 % of what it gains (downlink page of the
benchmarks)."""


class RateControlConfig(PartConfig):
    """Updates under a downlink budget."""

    bits_per_candidate: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    """Bits of the downlink budget for each parameter that a phase may move, with the codec delta-rans. It sends the changes
    that come to a step or more, and steps are as large as the budget needs: with more bits fewer parameters move, by finer
    steps. At most --fraction of the parameters do."""


def update_limit_bytes(inflow_bytes: float, room_bytes: float) -> int:
    """Return the bytes that the payload of an update may have, at least 0, of the `inflow_bytes` that its interval brings.

    Less where the bucket has only `room_bytes` beside its reserve; where that is overspent at least WORTHWHILE_UPDATE_BYTES,
    which then wait. What is saved up stays for other messages: updates that took it would exceed their rate for as long as a
    slow link's burst lasts, a minute. Those of the start of a run, which come more often, live on it.
    """
    least_bytes = min(WORTHWHILE_UPDATE_BYTES, largest_payload_bytes(inflow_bytes))
    return max(least_bytes, largest_payload_bytes(min(room_bytes, inflow_bytes)))


def parameter_limit(config: RateControlConfig, codec: UpdateCodec, limit_bytes: int | None, bits_per_parameter: float) -> int:
    """Return how many parameters a phase may change whose update has at most `limit_bytes`, at least 1; None for no limit.

    `bits_per_parameter` is the size of a changed parameter in the last update, which counts with codecs that keep no limit.
    """
    if limit_bytes is None:
        return UNLIMITED_PARAMETERS
    bits = config.bits_per_candidate if codec.keeps_limit else bits_per_parameter
    return max(1, int(8 * limit_bytes / bits))
