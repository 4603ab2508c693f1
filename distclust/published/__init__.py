"""The results that the papers print, and ours beside them."""

from __future__ import annotations

from distclust.published.compare import Comparison, Ours, Published, compare, markdown, published

__all__ = ["Comparison", "Ours", "Published", "compare", "markdown", "published"]
