"""What a job tells while it runs."""

from collections.abc import Callable
from typing import NamedTuple

__all__ = ["SILENT", "Progress"]


class Progress(NamedTuple):
    """What a job tells while it runs; the command line draws it.

    Attributes:
      stage: ``stage(name)``.
      step: ``step(step, steps, loss)``.
    """

    stage: Callable[[str], None]
    step: Callable[[int, int, float], None]


SILENT = Progress(lambda name: None, lambda step, steps, loss: None)
