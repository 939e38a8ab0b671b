"""Entry point of the `amanuensis` command: what goes wrong becomes a sentence and an exit status."""

from __future__ import annotations

import asyncio
import os
import sys

import typer

from daemon.cli import app
from streaming.errors import AmanuensisError

FAILED, MISUSED, INTERRUPTED = 1, 2, 130  # exit status


def main() -> int:
    """Runs the command -> exit status. AMANUENSIS_DEBUG=1 shows tracebacks."""
    try:
        return int(app(prog_name="amanuensis", standalone_mode=False) or 0)
    except (KeyboardInterrupt, asyncio.CancelledError, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output has heard enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if os.environ.get("AMANUENSIS_DEBUG"):
            raise
        return _explain(_root(error))


def _root(error: BaseException) -> BaseException:
    """The first error of a group of tasks: the one that ended the others."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _explain(error: BaseException) -> int:
    if isinstance(error, AmanuensisError):
        return _fail(str(error), FAILED)
    if hasattr(error, "format_message"):  # a command line that cannot be understood
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "amanuensis"
        if not error.format_message():  # no words at all: its help was printed
            return MISUSED
        return _fail(f"{error.format_message().rstrip('.')}. See: {command} --help", MISUSED)
    return _fail(
        f"Something unexpected went wrong ({type(error).__name__}: {error}). "
        "Run with AMANUENSIS_DEBUG=1 for the traceback.",
        FAILED,
    )


def _fail(sentence: str, status: int) -> int:
    print(f"amanuensis: {sentence}", file=sys.stderr)  # noqa: T201
    return status


if __name__ == "__main__":
    sys.exit(main())
