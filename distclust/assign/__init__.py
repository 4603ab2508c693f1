"""Who goes to which cluster, given costs or scores."""

from distclust.assign.exact import exact
from distclust.assign.greedy import greedy
from distclust.assign.sinkhorn import sinkhorn

__all__ = ["exact", "greedy", "sinkhorn"]
