"""Where members run: one driver, a pool in this process, pools on Ray and Ray Train, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distclust.distributed.driver import rounds
from distclust.distributed.pool import LocalPool

if TYPE_CHECKING:
    from distclust.distributed.data_parallel import DataParallelPool
    from distclust.distributed.ray_pool import RayPool

__all__ = ["DataParallelPool", "LocalPool", "RayPool", "rounds"]


def __getattr__(name: str) -> Any:
    if name == "RayPool":  # Ray is imported where it is used
        from distclust.distributed.ray_pool import RayPool

        return RayPool
    if name == "DataParallelPool":
        from distclust.distributed.data_parallel import DataParallelPool

        return DataParallelPool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
