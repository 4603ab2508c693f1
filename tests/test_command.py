"""What the commands share: an exit code and one message for whatever goes wrong."""

import subprocess
import sys

import pytest

from distclust.command import Parser, exit_code
from distclust.errors import DataError, InputError, RunError


def raises(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (DataError("x is bad; give another."), 2, "distclust: x is bad; give another.\n"),
        (RunError("it broke."), 1, "distclust: it broke.\n"),
        (KeyboardInterrupt(), 130, "distclust: stopped\n"),
    ],
)
def test_an_error_is_a_code_and_one_message(error, code, says, capsys):
    assert exit_code(raises(error), lambda: "stopped") == code
    assert capsys.readouterr().err == says


def test_our_own_mistakes_keep_their_traceback():
    with pytest.raises(ZeroDivisionError):
        exit_code(raises(ZeroDivisionError()), lambda: "")


def test_a_command_gives_its_own_code():
    assert exit_code(lambda: 7, lambda: "") == 7


def test_a_reader_that_has_gone_is_no_error():
    code = "from distclust.command import exit_code\nimport sys\n"
    code += "def command():\n    for _ in range(100_000): print('line')\n    return 0\n"
    code += "sys.exit(exit_code(command, str))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_a_parser_says_where_to_look():
    with pytest.raises(InputError, match=r"--unknown.*`program --help` shows"):
        Parser(prog="program").parse_args(["--unknown"])
