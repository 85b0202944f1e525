"""Log lines as JSON objects, one a line on stderr, redacted.

Modules log through the standard library and know nothing of this: `log_as_json`
changes how records are written. Without it they stay the text lines that people read.
"""

import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final

import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter
from structlog.typing import EventDict, WrappedLogger

from otpseal.redaction import redact

#: Frames of an exception that are told, the innermost.
_MAX_FRAMES: Final = 30

#: Parts of a file's path that are told; where it is installed is nobody's business.
_PATH_PARTS: Final = 3

# No name of an extra field, so that nobody else's is spared.
_FRAMES: Final = "otpseal.frames"

_UNFORMATTED: Final = "a log record that cannot be formatted"


def log_as_json(*, request_id: Callable[[], str | None] = lambda: None) -> None:
    """Write the records of every logger as JSON from now on.

    A line has `timestamp` (RFC 3339, UTC, milliseconds), `level`, `logger`, `event`,
    `request_id` if there is one, the record's extra fields, and for an exception its
    type and frames, never its message.

    Args:
        request_id: gives the id of the request in whose course a line is written.
    """
    formatter = JsonFormatter(request_id)
    logging.captureWarnings(capture=True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(formatter)


class JsonFormatter(ProcessorFormatter):
    """Formats a record as one redacted JSON object."""

    def __init__(self, request_id: Callable[[], str | None]) -> None:
        def add_request_id(
            _logger: WrappedLogger, _name: str, fields: EventDict
        ) -> EventDict:
            if (found := request_id()) is not None:
                fields["request_id"] = found
            return fields

        super().__init__(
            foreign_pre_chain=[ExtraAdder(), add_request_id],
            processors=[
                _describe_exception,
                _add_origin,
                ProcessorFormatter.remove_processors_meta,
                _redact,
                structlog.processors.JSONRenderer(),
            ],
        )

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a record that cannot be formatted is told without it."""
        try:
            return super().format(record)
        except (TypeError, ValueError, KeyError):
            # logging itself would print the arguments.
            spoilt = logging.makeLogRecord(
                {
                    "name": record.name,
                    "levelno": record.levelno,
                    "levelname": record.levelname,
                    "created": record.created,
                    "msg": _UNFORMATTED,
                }
            )
            return super().format(spoilt)


def _add_origin(_logger: WrappedLogger, _name: str, fields: EventDict) -> EventDict:
    record: logging.LogRecord = fields["_record"]
    at = datetime.fromtimestamp(record.created, UTC)
    origin = {
        "timestamp": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
    }
    return {**origin, **{k: v for k, v in fields.items() if k not in origin}}


def _describe_exception(
    _logger: WrappedLogger, _name: str, fields: EventDict
) -> EventDict:
    fields.pop("stack_info", None)
    error = fields.pop("exc_info", None)
    if isinstance(error, tuple):
        error = error[1]
    elif error is True:
        error = sys.exception()
    if isinstance(error, BaseException):
        fields["exception"] = type(error).__name__
        fields[_FRAMES] = frames_of(error.__traceback__)
    return fields


def frames_of(traceback: TracebackType | None) -> list[str]:
    """Return the innermost frames as `file:line in function`, outermost first."""
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        file = "/".join(Path(code.co_filename).parts[-_PATH_PARTS:])
        frames.append(f"{file}:{traceback.tb_lineno} in {code.co_name}")
        traceback = traceback.tb_next
    return frames[-_MAX_FRAMES:]


def _redact(_logger: WrappedLogger, _name: str, fields: EventDict) -> EventDict:
    # Names of code, which may be as long as a secret.
    frames = fields.pop(_FRAMES, None)
    safe: EventDict = redact(fields)
    if frames is not None:
        safe["frames"] = frames
    return safe
