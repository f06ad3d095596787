"""The downlink budgets of all devices that have said who they are, whether they are served or refused."""

from collections import OrderedDict

from ams_common.budget import TokenBucket, allowance
from ams_common.clock import Clock
from ams_common.messages import Hello
from ams_common.session.server import MAX_KNOWN_DEVICES


class Downlinks:
    """One bucket for each device, for all its streams: what a refused attempt has cost is missing from the next one.

    They are kept longer than sessions, of which a bucket is the ten-thousandth part in size.
    """

    def __init__(self, clock: Clock, capacity: int = MAX_KNOWN_DEVICES) -> None:
        """Remember at most `capacity` devices; the one that was silent longest is forgotten first."""
        self._clock = clock
        self._capacity = capacity
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def of(self, hello: Hello) -> TokenBucket:
        """Return the bucket of a device as it was left; a device that is new has a full one, as large as it asks for."""
        bucket = self._buckets.get(hello.device_id) or TokenBucket(allowance(hello.downlink_bps), self._clock)
        self.keep(hello.device_id, bucket)
        return bucket

    def keep(self, device_id: str, bucket: TokenBucket) -> None:
        """Remember the bucket of a device, which is not silent now."""
        self._buckets[device_id] = bucket
        self._buckets.move_to_end(device_id)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
