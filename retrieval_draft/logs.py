"""Logging to standard error: one line an event, with time, level and fields; never tokens or ids of users."""

import logging
import sys

FORMAT = "%(asctime)s %(levelname)s %(name)s %(message)s"


def to_stderr(level: str = "INFO") -> None:
    """Set up the root logger once, for a process of ours; libraries that embed us keep their own."""
    logging.basicConfig(stream=sys.stderr, level=level, format=FORMAT, force=True)
