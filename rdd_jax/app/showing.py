"""The job behind ``rdd data``: what is in a data set."""

from collections.abc import Mapping

import numpy as np

from rdd_jax.app import options
from rdd_jax.app.commands import Show
from rdd_jax.app.reading import splits_of
from rdd_jax.types import Data, Splits

__all__ = ["describe"]


def describe(config: Show) -> tuple[Splits, list[list[str]]]:
    """The splits of a data set and a table of its counts: a class (and group) a row, a split a column.

    Raises:
      InputError: the data or shift cannot be had.
    """
    options.check(config)
    splits = splits_of(config.name, config.data, config.seed)
    parts: Mapping[str, Data] = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    rows = [["all", *(str(len(part)) for part in parts.values())]]
    for c, class_name in enumerate(splits.train.class_names):
        rows.append([f"class {class_name}", *(str(np.sum(part.labels == c)) for part in parts.values())])
    for g, group_name in enumerate(splits.train.group_names):
        counts = ("-" if part.groups is None else str(np.sum(part.groups == g)) for part in parts.values())
        rows.append([f"group {group_name}", *counts])
    return splits, rows
