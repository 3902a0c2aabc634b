"""What a job tells while it runs: its stages, how much of each is done, and how long each took.

Functions of the library tell by `each` and `part`, whoever listens: a job does, for the time of `heard`.
"""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from rdd_jax.errors import T

__all__ = ["COMPILING", "SILENT", "Course", "Progress", "Stages", "duration", "each", "heard", "part"]


class Progress(NamedTuple):
    """What a job tells while it runs; the command line draws it.

    Attributes:
      stage: ``stage(name)``: what is done from now on.
      step: ``step(done, pieces, note)``: how many pieces of it are done, out of how many, and a word beside; of a
        piece that has pieces itself a fraction is done.
    """

    stage: Callable[[str], None]
    step: Callable[[int | float, int, str], None]


SILENT = Progress(lambda name: None, lambda done, pieces, note: None)

_STEP: ContextVar[Callable[[int | float, int, str], None]] = ContextVar("step", default=SILENT.step)


@contextmanager
def heard(progress: Progress) -> Iterator[None]:
    """Within the block ``progress`` is told what `each` and `part` tell."""
    token = _STEP.set(progress.step)
    try:
        yield
    finally:
        _STEP.reset(token)


@dataclass
class _Part:
    """The step of a piece: tells of pieces within it as of fractions of it."""

    whole: Callable[[int | float, int, str], None]
    number: int
    pieces: int
    note: str
    reached: float = 0.0

    def __call__(self, done: int | float, inner_pieces: int, inner_note: str) -> None:
        self.reached = max(self.reached, done / inner_pieces)  # of several loops, one after another, the farthest
        self.whole(self.number + self.reached, self.pieces, ", ".join(filter(None, (self.note, inner_note))))


@contextmanager
def part(number: int, pieces: int, note: str) -> Iterator[None]:
    """The block is piece ``number`` of ``pieces``; what is told within it is told as a fraction of that."""
    whole = _STEP.get()
    whole(number, pieces, note)
    token = _STEP.set(_Part(whole, number, pieces, note))
    try:
        yield
    finally:
        _STEP.reset(token)
    whole(number + 1, pieces, "")


def each(items: Collection[T], note: Callable[[T], str] = str) -> Iterator[T]:
    """The items, of which each is a `part`; ``note`` says what is done with it.

    >>> with heard(Progress(print, lambda *step: print(step))):
    ...     for name in each(["a", "b"]):
    ...         pass
    (0, 2, 'a')
    (1, 2, '')
    (1, 2, 'b')
    (2, 2, '')
    """
    for number, item in enumerate(items):
        with part(number, len(items), note(item)):
            yield item


COMPILING = 20
"""Seconds up to which the first piece may have gone into compiling: it says nothing of the others then."""


class Stages:
    """The stages of a job: each is told as it begins, and timed. One that comes again adds up."""

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.perf_counter):
        self.progress, self._clock = progress, clock
        self._ended: dict[str, float] = {}
        self._name, self._began = "", clock()

    def begin(self, name: str, what: str = "") -> None:
        """Ends the stage before; tells ``name what``, times it under ``name``."""
        self._ended, self._name, self._began = self._by_now(), name, self._clock()
        self.progress.stage(f"{name} {what}".strip())

    def began_before(self, seconds: int | float) -> None:
        """The stage counts as having begun so long ago, such as in a process that was killed."""
        self._began = self._clock() - seconds

    def _by_now(self) -> dict[str, float]:
        if not self._name:
            return self._ended
        return self._ended | {self._name: self._ended.get(self._name, 0.0) + self._clock() - self._began}

    @property
    def seconds(self) -> dict[str, float]:
        """Of every stage so far, and of the ``whole``."""
        ended = self._by_now()
        return {name: round(taken, 3) for name, taken in (ended | {"whole": sum(ended.values())}).items()}


class Course:
    """How far a stage is: for how long it has been done, and how long it will take."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self.stage("starting")

    def stage(self, name: str) -> None:
        """Another stage."""
        self.name, self.note, self.pieces, self._began = name, "", 0, self._clock()
        self._reports: list[tuple[int | float, float]] = []

    def step(self, done: int | float, pieces: int, note: str) -> None:
        """``done`` of ``pieces``; the first report says how many were done before.

        With other pieces, or fewer done, another loop of the stage begins.
        """
        if pieces != self.pieces or done < self.done:
            self._reports = []
        self.pieces, self.note = pieces, note
        if not self._reports or done > self.done:
            self._reports = [*self._reports[:2], (done, self.taken)]

    @property
    def done(self) -> int | float:
        """Pieces."""
        return self._reports[-1][0] if self._reports else 0

    @property
    def taken(self) -> float:
        """Seconds so far."""
        return self._clock() - self._began

    @property
    def left(self) -> float | None:
        """Seconds still to go; None before enough is done to tell, and once they have run out."""
        if len(self._reports) < 2:
            return None
        (before, then), (done, now) = self._reports[-2:]
        if len(self._reports) == 2 and now - then < COMPILING:
            return None
        pace = (now - then) / (done - before)
        left = pace * (self.pieces - done) - (self.taken - now)
        return left if left > 0 else None

    def words(self) -> str:
        """What is being done, for how long, and how long it will take."""
        note = f" ({self.note})" if self.note else ""
        said = [self.name, *([f"{int(self.done)} of {self.pieces}{note}"] if self.pieces else [])]
        said.append(f"{duration(self.taken)} so far")
        if self.left is not None:
            said.append(f"about {duration(self.left)} left")
        return ", ".join(said)


def duration(seconds: int | float) -> str:
    """In words, to two units.

    >>> duration(7.25), duration(95), duration(7500)
    ('7.2 s', '1 min 35 s', '2 h 5 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
