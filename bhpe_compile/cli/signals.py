"""Signals that end the program: SIGTERM and SIGHUP do what Ctrl-C does, so workers end and temporary folders go."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ENDING = (signal.SIGTERM, signal.SIGHUP)

AGAIN_SECONDS = 0.05
"""How long after an interruption that was lost it is raised once more."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, once: what cleans up is not interrupted by a second signal of the kind."""
    for ending in ENDING:
        signal.signal(ending, signal.SIG_IGN)
    raise KeyboardInterrupt


def _lost(unraisable: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised in callbacks (at a fork, in a finaliser); an interruption comes again then."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        main = threading.main_thread().ident
        again = threading.Timer(AGAIN_SECONDS, signal.pthread_kill, (main, signal.SIGINT))
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(unraisable)


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, these signals raise KeyboardInterrupt, where nobody ignores them (nohup) or handles them himself."""
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, _interrupt)
    hook, sys.unraisablehook = sys.unraisablehook, _lost
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


class Stop:
    """Whether the user wants a long run to end after what it is doing."""

    asked = False


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Inside, the first Ctrl-C (or SIGTERM, SIGHUP) only asks to stop; the second interrupts as usual."""
    stop = Stop()
    before: dict[signal.Signals, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *ENDING):
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, ask)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
