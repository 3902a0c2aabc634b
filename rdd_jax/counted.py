"""Arrays in groups with the number of groups beside them: no array, but known while a program is traced, as shapes are.

The value itself holds the number, and nothing else does, so that no sum over the groups can leave one out.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, TypeVar

import jax
import jax.core
import numpy as np

from rdd_jax.errors import InputError, at_least

__all__ = ["Counted", "pytree"]

T = TypeVar("T", bound="Counted")


@dataclass(frozen=True, eq=False)
class Counted:
    """What values in groups share: a count that their codes keep to. A subclass is one too, under `pytree`.

    Attributes:
      group_count: the codes lie in ``0..group_count-1``, and some groups may be empty. Where it is not given, or 0, it
        is found: the largest code + 1.

    Raises:
      InputError: codes that do not lie there, as far as their values are known; codes that are being traced, and no
        count.
    """

    CODES: ClassVar[str]
    """The name of the field of codes."""
    group_count: int = field(default=0, kw_only=True)

    def __post_init__(self):
        codes = getattr(self, self.CODES)
        at_least("group_count", self.group_count, 0)
        if isinstance(codes, np.ndarray | jax.Array) and not isinstance(codes, jax.core.Tracer):
            count = _checked(self.CODES, np.asarray(codes), self.group_count)
            object.__setattr__(self, "group_count", count)
        elif not self.group_count:
            raise InputError(f"{self.CODES} are being traced and their number cannot be seen: give group_count")

    def replace(self: T, **changes: Any) -> T:
        """The same with other values in some fields; other groups may need another ``group_count``."""
        return replace(self, **changes)


def _checked(what: str, codes: np.ndarray, count: int) -> int:
    """The count that is meant."""
    low, high = (int(codes.min()), int(codes.max())) if codes.size else (0, 0)
    count = count or max(0, high) + 1
    if low < 0 or high >= count:
        raise InputError(f"{what} hold {low} to {high}: they must lie in 0..{count - 1}, for group_count is {count}")
    return count


def pytree(cls: type[T]) -> type[T]:
    """A class decorator: for JAX a pytree of all fields but ``group_count``; another count is another program."""
    names = [one.name for one in fields(cls) if one.name != "group_count"]

    def flatten(value: Any) -> tuple[list, int]:
        return [getattr(value, name) for name in names], value.group_count

    def flatten_with_keys(value: Any) -> tuple[list, int]:
        return [(jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in names], value.group_count

    def unflatten(count: int, leaves: Any) -> Any:
        # Past the constructor: JAX builds values of tracers and placeholders, which were checked before or never will.
        value = object.__new__(cls)
        for name, leaf in zip((*names, "group_count"), (*leaves, count), strict=True):
            object.__setattr__(value, name, leaf)
        return value

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
