"""The files in a folder, and where its links lead."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from distclust.errors import DataError, option

# What operating systems and file servers write next to the user's own files, in lower case.
_SYSTEM = {
    "thumbs.db",
    "desktop.ini",
    "icon\r",
    "__macosx",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "system volume information",
    "lost+found",
}
_SHOWN = 5


class Files:
    """The files in a folder and below, each once, as paths relative to it with "/".

    Hidden files and folders (".name") and those of operating systems ("Thumbs.db", "__MACOSX") are left out. A link
    stands for what it leads to, unless that is in the folder under a name of its own.

    Args:
        folder: any.
        follow: whether links that lead out of the folder are followed.

    Attributes:
        names: the files, sorted.
        outside: links that lead out of the folder and were not followed, sorted.
        repeated: links to files and folders that have been found already, sorted.

    Raises:
        DataError: the folder or one below cannot be read.
    """

    def __init__(self, folder: Path, follow: bool) -> None:
        self.names: list[str] = []
        self.outside: list[str] = []
        self.repeated: list[str] = []
        self._root = os.path.realpath(folder)
        self._found: set[str] = set()  # real paths of folders and files
        self._links: list[str] = []  # a heap: those not looked at yet
        try:
            self._walk(self._root, "")
            while self._links:
                self._follow(heapq.heappop(self._links), follow)
        except OSError as error:
            raise DataError(f"{folder} cannot be read ({error}). Allow reading it, or give another folder.") from error
        self.names.sort()

    def _walk(self, folder: str, prefix: str) -> None:
        """Take up all files in a folder and below, and keep its links for later."""
        folders = [(folder, prefix)]
        while folders:
            folder, prefix = folders.pop()
            if folder in self._found:
                continue
            self._found.add(folder)
            with os.scandir(folder) as entries:
                for entry in (entry for entry in entries if _shown(entry.name)):
                    if entry.is_symlink():
                        heapq.heappush(self._links, prefix + entry.name)
                    elif entry.is_dir():
                        folders.append((entry.path, f"{prefix}{entry.name}/"))
                    elif entry.path not in self._found:
                        self._found.add(entry.path)
                        self.names.append(prefix + entry.name)

    def _follow(self, link: str, outside: bool) -> None:
        """Take up what a link leads to."""
        place = os.path.realpath(os.path.join(self._root, link))
        if not outside and place != self._root and not place.startswith(os.path.join(self._root, "")):
            self.outside.append(link)
        elif place in self._found:
            self.repeated.append(link)
        elif os.path.isdir(place):
            self._walk(place, f"{link}/")
        else:
            self._found.add(place)
            self.names.append(link)


def remarks_on_links(files: Files) -> Iterator[str]:
    """Yield what is to be said of links that were not followed."""
    if files.outside:
        n = counted(len(files.outside), "link leads", "links lead")
        yield f"{n} out of the folder, not followed: {listed(files.outside)} ({option('links', 'follow')} follows them)"
    if files.repeated:
        n = counted(len(files.repeated), "link leads", "links lead")
        yield f"{n} to what is in the folder already, left out: {listed(files.repeated)}"


def readable(name: str) -> str:
    r"""Return a file's name as valid text; bytes that are none become \xNN."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def listed(names: Sequence[str]) -> str:
    """Return the first few names as text, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(map(readable, names[:_SHOWN])) + more


def counted(number: int, what: str, several: str = "") -> str:
    """Return a number and what is counted: "1 file", "2 files"."""
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def _shown(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _SYSTEM
