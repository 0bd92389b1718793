"""Waiting for another process, without a clock."""

import time
from collections.abc import Callable
from typing import TypeVar

PAUSE = 0.02  # seconds
TRIES = 6000

Found = TypeVar("Found")


def until(asked: Callable[[], Found], otherwise: Callable[[], str] = lambda: "it never came") -> Found:
    """The first true answer; an AssertionError, which says ``otherwise()``, if none of many is."""
    for _ in range(TRIES):
        if answer := asked():
            return answer
        time.sleep(PAUSE)
    raise AssertionError(otherwise())
