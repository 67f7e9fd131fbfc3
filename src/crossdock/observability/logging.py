"""Structured logs: JSON lines for machines, readable lines on a terminal, secrets masked in both.

Our own lines go from structlog straight to standard error: by way of the standard library, as those of
other libraries go, a line would cost three times as much, and there is one for every delivery.
"""

import json
import logging
import os
import stat
import sys
from contextlib import suppress
from typing import Any

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from crossdock.observability.log_writing import PatientWriter
from crossdock.observability.redaction import redact

_log = structlog.get_logger(__name__)

# One for each descriptor, however often logging is set up: their lines must not be mixed.
_writers: dict[int, PatientWriter] = {}


def configure_logging(*, level: str, log_format: str) -> None:
    """Set up structlog and the standard library's logging alike, onto standard error."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # As text before the masking, and plain: a traceback that shows local variables shows the secrets in them.
        structlog.processors.format_exc_info,
        _mask,
    ]
    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    renderer: Processor = (
        structlog.processors.JSONRenderer(serializer=_to_json)
        if as_json
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    standard_error = _standard_error()
    handler = logging.StreamHandler(standard_error)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # At their lowest level, AWS's libraries log answers whole, secrets and all.
    for noisy in ("uvicorn.access", "asyncio", "alembic", "sqlalchemy", "botocore", "aiobotocore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, renderer],
        logger_factory=structlog.WriteLoggerFactory(standard_error),  # type: ignore[arg-type]  # all that it uses
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )


def _standard_error() -> "_StandardError | PatientWriter":
    """Where lines go. A pipe or socket is written to beside the work, since its reader may stop reading."""
    try:
        descriptor = sys.stderr.fileno()
        mode = os.fstat(descriptor).st_mode
    except (OSError, ValueError):  # closed, or no file at all
        return _StandardError()
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        return _StandardError()
    if descriptor not in _writers:
        _writers[descriptor] = PatientWriter(descriptor, dropped=_tell_dropped)
    return _writers[descriptor]


def _tell_dropped(count: int) -> None:
    _log.warning("log_lines_dropped", count=count, reason="Whoever reads standard error did not read for a while.")


class _StandardError:
    """What is written goes to where standard error is now; that nobody can take it must not stop the work."""

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def _mask(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: redact(key, value) for key, value in event.items()}


def _to_json(event: EventDict, **_options: Any) -> str:  # noqa: ANN401 - structlog passes options of json.dumps
    try:
        return msgspec.json.encode(event, enc_hook=repr).decode()
    except (TypeError, ValueError):
        return json.dumps(event, default=repr)  # keys that are no text, halves of surrogate pairs
