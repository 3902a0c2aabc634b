"""What the scripts' tables share."""

from collections.abc import Iterable
from statistics import mean, stdev


def spread(values: Iterable[float], digits: int = 1) -> str:
    """Mean ± sample standard deviation; the mean alone of one value, nothing of none."""
    listed = list(values)
    if not listed:
        return ""
    return f"{mean(listed):.{digits}f}" + (f" ± {stdev(listed):.{digits}f}" if len(listed) > 1 else "")
