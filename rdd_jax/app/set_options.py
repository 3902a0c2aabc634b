"""The sections of a configuration that are about the synthetic set: its size, its start, how it is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from rdd_jax.app.options import Option, count, number, one_of
from rdd_jax.errors import unknown
from rdd_jax.parameterise import PARAMETERISATIONS
from rdd_jax.selection import DRAWS
from rdd_jax.selection.initialise import STARTS

__all__ = [
    "BY_KIP",
    "LearnedSetOptions",
    "NetworkSetOptions",
    "SelectionOptions",
    "SetOptions",
    "StartOptions",
]


def _init(starts: Sequence[str]) -> Option:
    """One of ``starts``, or a set that is there already."""

    def check(name: str, value: str) -> None:
        if value not in starts and not (value and Path(value).exists()):
            raise unknown(name, value, (*starts, "a run folder", "an .npz file"))

    return Option(f"a run folder, an .npz, or: {', '.join(starts)}", "NAME", check)


BY_KIP = "kip"
"""The start that `rdd_jax.app.kip_start` distils."""


@dataclass(frozen=True)
class SelectionOptions:
    """How real images are chosen."""

    select_ridge: Annotated[float, number("of sensitivities: ridge, as a fraction of the Gram matrix's trace")] = 1e-3
    landmarks: Annotated[int | None, count("of sensitivities; unset: exact up to 10,000 examples, then 1,000")] = None


@dataclass(frozen=True)
class StartOptions:
    """How large the set is, and where it starts."""

    ipc: Annotated[int, count("synthetic images a class")] = 10
    init: Annotated[str, _init(STARTS)] = "random"
    init_draw: Annotated[str, one_of(DRAWS, "of an init by score")] = "distinct"


@dataclass(frozen=True)
class SetOptions(SelectionOptions, StartOptions):
    """The synthetic set and where it starts."""

    STARTS: ClassVar[tuple[str, ...]] = STARTS
    """Names of starts; any other ``init`` is a file or a run folder."""


@dataclass(frozen=True)
class LearnedSetOptions(SetOptions):
    """A set whose images are learned."""

    init_strata: Annotated[
        str | None, one_of(("class", "group"), "start by class, or evenly by group; unset: see --robust")
    ] = None
    parameterisation: Annotated[str, one_of(PARAMETERISATIONS, "how images are stored")] = "pixels"
    factor: Annotated[int, count("of multi-formation: images a side of a stored one")] = 2

    @property
    def formed(self) -> int:
        """Images that the storage of one decodes to."""
        return self.factor**2 if self.parameterisation == "multi-formation" else 1

    @property
    def images(self) -> int:
        """Images a class of the decoded set."""
        return self.ipc * self.formed


@dataclass(frozen=True)
class NetworkSetOptions(LearnedSetOptions):
    """The set of a method through networks, which may begin where KIP ends."""

    STARTS: ClassVar[tuple[str, ...]] = (*STARTS, BY_KIP)

    init: Annotated[str, _init(STARTS)] = "random"
    init_steps: Annotated[int, count("of --init kip: its steps, by --kernel")] = 300
