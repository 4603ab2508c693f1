"""What the commands share: exit codes, and one message in place of a traceback."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

from distclust.errors import DistclustError, InputError, on_command_line

INTERRUPTED = 130


def exit_code(command: Callable[[], int], interrupted: Callable[[], str]) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 unusable input, 130 interrupted.

    Args:
        command: does it, and returns its own code.
        interrupted: what to say after Ctrl-C.
    """
    try:
        return command()
    except InputError as error:
        print(f"distclust: {on_command_line(error)}", file=sys.stderr)
        return 2
    except DistclustError as error:
        print(f"distclust: {on_command_line(error)}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read the output has gone, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print(f"distclust: {interrupted()}", file=sys.stderr)
        return INTERRUPTED


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM end the run as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def whole_number(name: str, word: str, least: int) -> int:
    """Return the value of an option that takes whole numbers.

    Args:
        name: the option, as in "--points".
        word: what was given.
        least: the least value that is allowed.

    Raises:
        InputError: it is no whole number, or too small.
    """
    if not (word.isascii() and word.isdecimal() and len(word) < 19) or int(word) < least:
        raise InputError(f"{name} got {word!r}; it takes integers of at least {least}, as in {name} {least + 100}.")
    return int(word)


class Parser(argparse.ArgumentParser):
    """A parser that raises InputError where it does not understand."""

    def error(self, message: str) -> NoReturn:
        """Raise the message, with where to look."""
        raise InputError(f"{message}. `{self.prog} --help` shows what there is.")


def subcommand(name: str, usage: str, description: str, epilog: str) -> Parser:
    """Return the parser of a command of `python -m distclust.run` that takes words and --help.

    Args:
        name: of the command.
        usage: what follows its name, options last.
        description: what it does.
        epilog: examples.
    """
    prog = f"python -m distclust.run {name}"
    parser = Parser(
        prog=prog,
        usage=f"{prog} {usage}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar=usage.split(" --")[0], help=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="store_true", help="show this and end")
    return parser


def only(words: Sequence[str], what: str) -> str:
    """Return the one word that a command takes.

    Raises:
        InputError: there is none, or there are more.
    """
    if len(words) != 1:
        raise InputError(f"give {what}, and nothing else; got {list(words)}.")
    return words[0]
