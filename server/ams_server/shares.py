"""Fair shares of a total: nobody gets more than asked, and nobody less than another who asks for as much (max-min fairness)."""

from collections.abc import Sequence


def fair_shares(asked_bps: Sequence[int], total_bps: int) -> list[int]:
    """Return what each gets of `total_bps`, in the order of `asked_bps`; 0 stands for no limit in all of them.

    Who asks for less than an even share gets all of it; the others share what is left, again evenly.
    """
    if total_bps == 0:
        return list(asked_bps)
    shares = [0] * len(asked_bps)
    left_bps, waiting = total_bps, len(asked_bps)
    for index in sorted(range(len(asked_bps)), key=lambda each: asked_bps[each] or float("inf")):
        even_bps = max(1, left_bps // waiting)
        shares[index] = min(asked_bps[index] or even_bps, even_bps)
        left_bps -= shares[index]
        waiting -= 1
    return shares
