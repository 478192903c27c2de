"""One JSON object a line. It says who asked, what came of it and how long it took, and nothing of what was asked."""

import json
import logging
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger("relgrade.serve")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


@dataclass
class Seen:
    """What is known of a request; filled while it is answered."""

    request_id: str
    key: str | None = None  # name of the key
    dialect: str = "-"
    model: str | None = None
    n_documents: int | None = None
    kind: str | None = None  # of the refusal
    extra: dict[str, Any] = field(default_factory=dict)


class JsonFormatter(logging.Formatter):
    """A record, and what was passed as `extra`, as JSON in ASCII. Line breaks in values are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({name: value for name, value in vars(record).items() if name not in _STANDARD})
        if record.exc_info and record.exc_info[1] is not None:
            line["frames"] = frames(record.exc_info[1])
        return json.dumps(line, default=str)


def frames(error: BaseException) -> list[str]:
    """Where an error happened, without its message, which may quote a document."""
    summary = traceback.extract_tb(error.__traceback__)
    return [type(error).__name__, *(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in summary)]


def log_request(seen: Seen, *, method: str, path: str, status: int, seconds: float) -> None:
    """The line of one request."""
    told = {
        "request_id": seen.request_id,
        "method": method,
        "path": path[:200],
        "status": status,
        "ms": round(seconds * 1e3, 1),
        "key": seen.key,
        "dialect": seen.dialect,
        "model": seen.model,
        "documents": seen.n_documents,
        "error": seen.kind,
        **seen.extra,
    }
    logger.info("request", extra={name: value for name, value in told.items() if value is not None})
