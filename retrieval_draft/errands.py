"""Work beside drafting: one thread, each piece of work once however often it was asked for."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Errand = TypeVar("Errand", bound=Hashable)

_log = logging.getLogger(__name__)


class Errands(Generic[Errand]):
    """`run` gets what was put, one after the other; it returns after how many seconds again, or None.

    An exception is logged and ends that errand alone. With `nice` above 0 a busy machine does other
    things first.
    """

    def __init__(self, name: str, run: Callable[[Errand], float | None], nice: int = 0) -> None:
        self._run, self._nice = run, nice
        self._due: dict[Errand, float] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._busy = False
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds_max: float) -> None:
        """Nothing more is begun; what runs may go on beyond `seconds_max`, in a daemon thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(seconds_max)

    @property
    def stopped(self) -> bool:
        return self._stopped

    def put(self, errand: Errand, seconds: float = 0.0) -> None:
        """Have it run, so many seconds from now or as soon as it was asked for before."""
        with self._changed:
            due = time.monotonic() + seconds
            self._due[errand] = min(due, self._due.get(errand, due))
            self._changed.notify_all()

    def wait_until_idle(self, seconds_max: float) -> bool:
        """Whether nothing that is due was left in time."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._busy and self._next()[1] > 0, seconds_max
            )

    def _next(self) -> tuple[Errand | None, float]:
        """What is due first, and in how many seconds."""
        if not self._due:
            return None, float("inf")
        errand = min(self._due, key=lambda one: self._due[one])
        return errand, self._due[errand] - time.monotonic()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)
        while True:
            with self._changed:
                errand, seconds = self._next()
                if self._stopped:
                    return
                if errand is None or seconds > 0:
                    self._changed.wait(None if errand is None else seconds)
                    continue
                del self._due[errand]
                self._busy = True
            again = None
            try:
                again = self._run(errand)
            except Exception:
                _log.exception("%s: %s was given up", self._thread.name, errand)
            with self._changed:
                self._busy = False
                self._changed.notify_all()
            if again is not None:
                self.put(errand, again)
