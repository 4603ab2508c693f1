"""What the commands share: exit codes, and one message in place of a traceback."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from distclust.errors import DistclustError, InputError, RunFolderError, nearest, on_command_line

INTERRUPTED = 130


def program() -> str:
    """Return how the command was started: "distclust" by the installed script, else "python -m distclust.run"."""
    started = os.path.basename(sys.argv[0]) if sys.argv else ""
    return "distclust" if started.removesuffix(".exe") == "distclust" else "python -m distclust.run"


def typed(words: Iterable[str]) -> str:
    """Return the command with these words, as it is typed."""
    return f"{program()} {shlex.join(words)}".rstrip()


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
        flag = re.search(r"unrecognized arguments: (--[\w.-]+)(=\S*)?", message)
        raise InputError(
            f"{message}.{self._hint(*flag.groups()) if flag else ''} `{self.prog} --help` shows what there is."
        )

    def _hint(self, flag: str, value: str | None) -> str:
        """Return what is meant by a flag that there is not: another one, or a key, which takes no dashes."""
        if near := nearest(flag, [name for action in self._actions for name in action.option_strings]):
            return f" Did you mean {near}?"
        return f" Keys take no dashes: {flag.removeprefix('--').replace('-', '_')}{value or '=VALUE'}."


def subcommand(name: str, usage: str, description: str, epilog: str) -> Parser:
    """Return the parser of a command of `distclust` that takes words and --help.

    Args:
        name: of the command.
        usage: what follows its name, options last.
        description: what it does.
        epilog: examples, in which {program} stands for how the command was started.
    """
    prog = f"{program()} {name}"
    parser = Parser(
        prog=prog,
        usage=f"{prog} {usage}",
        description=description,
        epilog=epilog.replace("{program}", program()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar=usage.split(" --")[0], help=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="store_true", help="show this and end")
    return parser


def existing(path: str, file: str, what: str) -> str:
    """Return the path of a folder that a command reads, before anything heavy is loaded for it.

    Args:
        path: as it was given.
        file: what must lie in it.
        what: what the folder is, as in "the folder of a run".

    Raises:
        RunFolderError: there is no such folder.
    """
    if (Path(path) / file).is_file():
        return path
    beside = Path(path).absolute().parent
    known = [place.name for place in beside.iterdir() if (place / file).is_file()] if beside.is_dir() else []
    near = nearest(Path(path).name, known)
    hint = f" Did you mean {Path(path).parent / near}?" if near else ""
    raise RunFolderError(f"{path} is not {what} (it has no {file}).{hint} Give one that has.")


def only(words: Sequence[str], what: str) -> str:
    """Return the one word that a command takes.

    Raises:
        InputError: there is none, or there are more.
    """
    if len(words) != 1:
        raise InputError(f"give {what}, and nothing else; got {list(words)}.")
    return words[0]
