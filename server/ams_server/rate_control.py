"""How a downlink budget is spent on updates: how many bytes the next one may have, and how many parameters it may change.

A device's token bucket keeps the account. What was sent beyond the budget is missing from it and is taken back from the next
updates: an update that fits never waits for the budget, and a model that comes later is worth less than one that comes coarser.
"""

from pydantic import Field

from ams_common.budget import LEAST_UPDATE_BYTES, UNLIMITED_PARAMETERS, TokenBucket, payload_bytes
from ams_common.settings import PartConfig
from ams_common.sparse_update import UpdateCodec


class RateControlConfig(PartConfig):
    """Updates under a downlink budget."""

    bits_per_candidate: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    """Bits of the downlink budget for each parameter that a phase may move, with the codec delta-rans. It sends the changes
    that come to a step or more, and steps are as large as the budget needs: with more bits fewer parameters move, by finer
    steps. At most --fraction of the parameters do."""


def update_limit_bytes(bucket: TokenBucket, rate_bps: float, interval_s: float) -> int | None:
    """Return the bytes that the payload of an update may have that goes now; None for no limit (`rate_bps` 0).

    `rate_bps` is what is planned for messages (`planned_bps`). The limit is what an interval brings, less what the bucket lacks
    beside its reserve; where the budget is overspent at least LEAST_UPDATE_BYTES, which then wait. What is saved up stays for
    other messages: updates that took it would exceed their rate for as long as a slow link's burst lasts, a minute.
    """
    if rate_bps == 0:
        return None
    inflow_bytes = rate_bps * interval_s / 8
    least_bytes = min(LEAST_UPDATE_BYTES, payload_bytes(inflow_bytes))
    return max(least_bytes, payload_bytes(min(bucket.room_bytes, inflow_bytes)))


def parameter_limit(config: RateControlConfig, codec: UpdateCodec, limit_bytes: int | None, bits_per_parameter: float) -> int:
    """Return how many parameters a phase may change whose update has at most `limit_bytes`, at least 1.

    `bits_per_parameter` is the size of a changed parameter in the last update, which counts with codecs that keep no limit.
    """
    if limit_bytes is None:
        return UNLIMITED_PARAMETERS
    bits = config.bits_per_candidate if codec.keeps_limit else bits_per_parameter
    return max(1, int(8 * limit_bytes / bits))
