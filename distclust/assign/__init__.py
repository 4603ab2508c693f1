"""Who goes to which cluster, given costs, scores or probabilities."""

from distclust.assign.em import pseudo_labels_em, pseudo_labels_optimal
from distclust.assign.exact import exact
from distclust.assign.greedy import greedy
from distclust.assign.sinkhorn import sinkhorn

__all__ = ["exact", "greedy", "pseudo_labels_em", "pseudo_labels_optimal", "sinkhorn"]
