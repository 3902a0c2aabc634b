"""Metrics of predictions, as fractions."""

import numpy as np


def accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    """The share of rows of ``outputs [n, k]`` whose largest entry is at ``labels [n]``; a row with a NaN is wrong."""
    return float(np.mean((outputs.argmax(1) == labels) & ~np.isnan(outputs).any(1)))
