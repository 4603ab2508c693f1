"""One measured figure, and how a table of them is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One measured figure.

    Args:
        name: what was measured.
        value: the figure.
        unit: of the figure.
        target: what it should be, in words; empty = for information.
        holds: whether it is so; None = for information.
    """

    name: str
    value: float
    unit: str
    target: str = ""
    holds: bool | None = None


def at_most(name: str, value: float, unit: str, limit: float) -> Row:
    """Return a row whose value should not exceed a limit."""
    return Row(name, value, unit, f"<= {limit:g}", value <= limit)


def at_least(name: str, value: float, unit: str, limit: float) -> Row:
    """Return a row whose value should reach a limit."""
    return Row(name, value, unit, f">= {limit:g}", value >= limit)


def show(rows: Sequence[Row]) -> int:
    """Print the rows as a table and return 0 if all targets hold, else 1."""
    width = max(len(row.name) for row in rows)
    for row in rows:
        verdict = {True: "holds", False: "MISSED", None: ""}[row.holds]
        print(f"{row.name:<{width}}  {row.value:>10.3f} {row.unit:<3}  {row.target:<8}  {verdict}".rstrip())
    return int(any(row.holds is False for row in rows))
