"""Arrays that begin where a CPU device of JAX wants its own to: it takes them as they are and copies nothing."""

from collections.abc import Sequence
from math import prod

import numpy as np

__all__ = ["ALIGNMENT", "aligned"]

ALIGNMENT = 64
"""Bytes; NumPy's own arrays begin at a multiple of 16."""


def aligned(shape: Sequence[int], dtype: np.dtype | type) -> np.ndarray:
    """An array of that shape with whatever is in its memory."""
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)
