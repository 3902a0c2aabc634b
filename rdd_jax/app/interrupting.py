"""Ctrl-C and SIGTERM, which schedulers send first: two ways of ending what is being done."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["ended_by_signals", "signals_noted"]


@contextmanager
def _handled(by: Callable[[int, object], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    before = {number: signal.signal(number, by) for number in (signal.SIGINT, signal.SIGTERM)}
    hook, sys.unraisablehook = sys.unraisablehook, _said_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _said_again(lost: "sys.UnraisableHookArgs") -> None:
    """An interrupt that came within a callback of the garbage collector is lost there: it comes again.

    What TensorStore says late about a damaged checkpoint is no news: Orbax has raised already.
    """
    if isinstance(lost.exc_value, KeyboardInterrupt):
        threading.Timer(0.01, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
    elif "Event loop is closed" not in str(lost.exc_value):
        sys.__unraisablehook__(lost)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Either signal ends the block at once, by `KeyboardInterrupt`.

    On its way through an import, JAX or Orbax an interrupt may turn into any exception: it is one again in the end.
    """
    came: list[int] = []

    def end(number: int, frame: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    with _handled(end):
        try:
            yield
        except BaseException as error:
            if came and not isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            raise


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """A first signal is noted, to be heeded where the state is sound and in the end; a second one ends the block."""
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        noted.append(number)
        if len(noted) > 1:
            raise KeyboardInterrupt

    with _handled(note):
        yield noted
    if noted:
        raise KeyboardInterrupt
