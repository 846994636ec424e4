"""Logs go to stderr, one line each: readable on a terminal, JSON elsewhere. Standard output belongs to results."""

import sys

import structlog


def to_stderr() -> None:
    """Sets structlog up for this process."""
    on_terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        # Looked up anew for each logger: whoever redirects stderr later gets the logs too.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
