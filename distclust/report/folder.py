"""The folder that a command of `distclust.report` draws into."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from distclust.errors import RunFolderError

if TYPE_CHECKING:
    from distclust.distributed.checkpoint import LocalFolder


@contextmanager
def new_folder(path: Path) -> Iterator[LocalFolder]:
    """Give the folder at a path, and delete it after the block if it is new and still empty.

    Raises:
        RunFolderError: it holds something already, or cannot be made.
    """
    try:
        there = path.exists()
        taken = there and (not path.is_dir() or any(path.iterdir()))
    except OSError as error:
        raise RunFolderError(f"{path} cannot be read ({error}); choose another --out.") from error
    if taken:
        raise RunFolderError(f"{path} exists already and is not an empty folder; choose another --out.")
    from distclust.distributed.checkpoint import LocalFolder

    folder = LocalFolder(path)
    try:
        yield folder
    finally:
        if not there and not any(path.iterdir()):
            path.rmdir()
