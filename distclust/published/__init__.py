"""The results that the papers print, and ours beside them."""

from __future__ import annotations

from distclust.published.compare import (
    Comparison,
    Ours,
    Published,
    as_printed,
    compare,
    in_columns,
    markdown,
    published,
    table,
    table_names,
)

__all__ = [
    "Comparison",
    "Ours",
    "Published",
    "as_printed",
    "compare",
    "in_columns",
    "markdown",
    "published",
    "table",
    "table_names",
]
