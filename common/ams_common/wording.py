"""Words that a person reads."""


def counted(count: int, noun: str) -> str:
    """Return `count` with its `noun`, in the plural unless it is one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
