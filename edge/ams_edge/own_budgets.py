"""The budgets of a device: what a person asks for, what the device keeps to by itself, and what the server leaves of that."""

from pydantic import ValidationError

from ams_common.budget import even_rates
from ams_common.errors import ConfigurationError
from ams_common.messages import Bound, Budget, Control
from ams_common.wording import budgets_told
from ams_edge.settings import DeviceConfig


class OwnBudgets:
    """Three steps from a wish to what holds. Rates are in bit/s, 0 for no limit."""

    def __init__(self, config: DeviceConfig) -> None:
        self._device_id = config.device_id
        self._control: Control | None = None
        self._ask(config)

    @property
    def held(self) -> Budget:
        """What the device may use: in each direction the smaller of its own rate and the server's."""
        if self._control is None:
            return self.own
        return Budget(
            uplink_bps=min(filter(None, (self.own.uplink_bps, self._control.uplink_bps)), default=0),
            downlink_bps=min(filter(None, (self.own.downlink_bps, self._control.downlink_bps)), default=0),
        )

    @property
    def bounds(self) -> tuple[Bound, Bound]:
        """Why the server leaves less than the own rates, up and down; "unspecified" where it does not, or does not say."""
        if self._control is None:
            return "unspecified", "unspecified"
        held, own = self.held, self.own
        return (
            self._control.uplink_bound if held.uplink_bps != own.uplink_bps else "unspecified",
            self._control.downlink_bound if held.downlink_bps != own.downlink_bps else "unspecified",
        )

    def change(self, *, uplink_kbps: float, downlink_kbps: float) -> None:
        """Ask for other rates, in kbit/s.

        Raises:
            ConfigurationError: one is negative or no number.
        """
        try:
            self._ask(DeviceConfig(device_id=self._device_id, uplink_kbps=uplink_kbps, downlink_kbps=downlink_kbps))
        except ValidationError as error:
            raise ConfigurationError(
                f"budgets of {uplink_kbps} and {downlink_kbps} kbit/s: {error.errors()[0]['msg']}"
            ) from error

    def obey(self, control: Control) -> bool:
        """Keep to what the server says; tell whether that changes what is held, or why it is no more."""
        before = self.held, self.bounds
        self._control = control
        return (self.held, self.bounds) != before

    def _ask(self, config: DeviceConfig) -> None:
        self.asked = Budget(uplink_bps=round(1000 * config.uplink_kbps), downlink_bps=round(1000 * config.downlink_kbps))
        """What a person has set."""
        uplink_bps, downlink_bps = even_rates(self.asked.uplink_bps, self.asked.downlink_bps)
        self.own = Budget(uplink_bps=uplink_bps, downlink_bps=downlink_bps)
        """What the device keeps to whatever the server says, as `even_rates` has them."""


def told(budget: Budget, bounds: tuple[Bound, Bound] = ("unspecified", "unspecified")) -> str:
    """Return both rates as a person reads them, with what keeps them from being more."""
    return budgets_told(budget.uplink_bps, budget.downlink_bps, bounds)
