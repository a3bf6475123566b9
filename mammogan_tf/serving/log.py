"""The server's log: one JSON object a line, one line a request, and never what is in a request."""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

__all__ = ["json_log"]


class JsonFormatter(logging.Formatter):
    """``{"time": ..., "level": ..., "event": ..., **fields}``, the fields being those of ``extra={"fields": ...}``."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


@contextmanager
def json_log() -> Iterator[None]:
    """Shows on standard error what ``mammogan_tf.serving`` logs."""
    package, handler = logging.getLogger("mammogan_tf.serving"), logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    level, propagate = package.level, package.propagate
    package.addHandler(handler)
    package.setLevel(logging.INFO)
    package.propagate = False
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(level)
        package.propagate = propagate
