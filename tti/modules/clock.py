"""A clock for training time, excluding validations and continuing across restarts."""

import time


class Clock:
    """Counts seconds while it runs."""

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """Start or continue counting."""
        if self._since is None:
            self._since = time.perf_counter()

    def stop(self) -> None:
        """Pause."""
        self._before, self._since = self.seconds, None

    @property
    def seconds(self) -> float:
        """Seconds counted so far."""
        return self._before + (time.perf_counter() - self._since if self._since is not None else 0.0)

    @seconds.setter
    def seconds(self, value: float) -> None:
        self._before = value
        self._since = time.perf_counter() if self._since is not None else None
