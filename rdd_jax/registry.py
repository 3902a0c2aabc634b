"""A family of pieces by name: the one place where a name is typed.

The command line, its help, the documentation and the contract tests of a family all read its registry, so that a new
member is one file, and one line in the registry::

    "semideviation": "rdd_jax.risk.semideviation:semideviation",
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from rdd_jax.errors import unknown

__all__ = ["Registry"]

T = TypeVar("T")


class Registry(dict[str, Callable[..., T]]):
    """Factories by name. ``registry[name]`` raises `InputError` with the nearest names where there is none.

    Args:
      what: a member in words, for messages.
      members: factories, or ``"module:name"`` of such, imported when first asked for; a parameter without a default
        must be among the options that `make` is given.

    >>> shapes = Registry("shape", {"ball": lambda radius=1.0: radius, "cube": lambda side: side})
    >>> shapes.make("cube", side=3, radius=2.0)
    3
    >>> shapes["bal"]
    Traceback (most recent call last):
    ...
    rdd_jax.errors.InputError: unknown shape 'bal': did you mean ball? choose from ball, cube
    """

    def __init__(self, what: str, members: Mapping[str, Callable[..., T] | str]):
        super().__init__(cast(Mapping[str, Callable[..., T]], members))
        self.what = what

    def __getitem__(self, name: str) -> Callable[..., T]:
        member = super().__getitem__(name)
        if isinstance(member, str):
            module, _, attribute = member.partition(":")
            member = self[name] = getattr(importlib.import_module(module), attribute)
        return member

    def __missing__(self, name: str) -> Callable[..., T]:
        raise unknown(self.what, name, self)

    def make(self, name: str, /, **options: Any) -> T:
        """The member of that name, made with those of ``options`` that its factory takes."""
        factory = self[name]
        taken = inspect.signature(factory).parameters
        return factory(**{key: value for key, value in options.items() if key in taken})

    def make_each(self, names: str, /, separator: str = "+", **options: Any) -> list[T]:
        """The members of a list of names such as ``"mean+max"``."""
        return [self.make(name.strip(), **options) for name in names.split(separator)]
