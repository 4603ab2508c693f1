"""Where members run: one driver, a pool in this process and a pool on Ray, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distclust.distributed.driver import rounds
from distclust.distributed.pool import LocalPool

if TYPE_CHECKING:
    from distclust.distributed.ray_pool import RayPool

__all__ = ["LocalPool", "RayPool", "rounds"]


def __getattr__(name: str) -> Any:
    if name == "RayPool":  # Ray is imported where it is used
        from distclust.distributed.ray_pool import RayPool

        return RayPool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
