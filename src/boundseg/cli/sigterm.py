"""SIGTERM, which schedulers send before they kill: it ends a command as Ctrl-C does."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Within it SIGTERM raises KeyboardInterrupt, so that nothing half-written is left.

    Workers that are forked meanwhile end by it at once, as anywhere: a pool sends it to its own and waits, and Python's
    handler may come too late for a worker that waits itself.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _is_ours() -> bool:
    return signal.getsignal(signal.SIGTERM) is signal.default_int_handler


# what is sent to a worker while it is being made is kept until it can end by it
def _hold() -> None:
    if _is_ours():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _go_on() -> None:
    if _is_ours():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _let_go() -> None:
    if _is_ours():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_go_on, after_in_child=_let_go)
