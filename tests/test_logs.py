"""Logs as JSON: one object a line, whatever is logged."""

import json
import logging

import pytest

from retrieval_draft.logs import JSON, to_stderr


def test_every_event_is_one_json_object_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        to_stderr("INFO", JSON)
        log = logging.getLogger("retrieval_draft.test")
        log.info("snapshot %d of\n%s", 3, 'a "name"')
        log.debug("not asked for")
        try:
            raise ValueError("broken")
        except ValueError:
            log.exception("failed")
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:], root.level = handlers, level
    told, failed = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert told["message"] == 'snapshot 3 of\na "name"'
    assert (told["level"], told["logger"]) == ("INFO", "retrieval_draft.test")
    assert told["time"].endswith("+00:00")
    assert "traceback" not in told
    assert failed["traceback"].endswith("ValueError: broken")
