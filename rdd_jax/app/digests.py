"""Digests, by which it is seen that something is what it was."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rdd_jax.pixels import parts
from rdd_jax.types import Splits

__all__ = ["digest", "fingerprint", "of_file"]


def fingerprint(data: Splits) -> str:
    """A digest of every image, label, group and name of every split, with their shapes and dtypes."""
    found = hashlib.blake2b(digest_size=16)
    for part in data[:3]:
        found.update(repr((part.class_names, part.group_names)).encode())
        for array in (part.images, part.labels, *(() if part.groups is None else (part.groups,))):
            found.update(repr((array.dtype.str, array.shape)).encode())
            for _, block in parts(array):
                found.update(np.ascontiguousarray(block).data)
    return found.hexdigest()


def digest(values: Mapping[str, Any]) -> str:
    """Of a configuration as its file has it, however that is laid out."""
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def of_file(file: Path) -> str:
    """Of every byte."""
    return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
