"""A fitted ensemble as one ONNX file: raw values in, the labels of `predict` out, without distclust or torch."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from distclust.contracts import Labels
from distclust.distributed.checkpoint import LocalFolder
from distclust.errors import DataError, InputError
from distclust.methods.base import EnsembleClusterer

_OUTPUTS = ["labels", "agreement", "probabilities"]


def export_onnx(model: EnsembleClusterer, path: str | Path) -> None:
    """Write encoders, heads and vote of a fitted ensemble to an ONNX file, whole or not at all.

    Its input `x` are raw values, (N, *shape) float32, or float64 where values lie so close together for their size that
    float32 could not tell them apart; N is free. Its outputs are `labels` (N,) int64 as `predict` gives
    them, `agreement` (N,) float64, the share of the voting members behind them, and `probabilities` (N, K) float64.
    Where as many members say one thing as another, the label that fewer points of the same call get wins, as in `vote`.

    Args:
        model: fitted, of combination, selective or entropy.
        path: of a file that does not exist yet, as in "model.onnx".

    Raises:
        InputError: onnx and onnxscript are not installed, or the method cannot be exported.
        DataError: the file exists.
        RunFolderError: it cannot be written.
        RunError: the model cannot label new points.
    """
    check_is_fitted(model)
    target = Path(path)
    if target.exists():
        raise DataError(f"{target} exists already; choose another file.")
    folder = LocalFolder(target.parent)
    try:
        import onnxscript  # noqa: F401  # torch's exporter needs it
    except ImportError as error:
        raise InputError("ONNX needs two packages more: pip install 'distclust[onnx]'.") from error
    example = torch.zeros(2, *model.shape_, dtype=_input_type(model))
    model._vote(example.numpy())  # or says why it cannot label new points
    ensemble = _Ensemble(model).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own making
        program: Any = torch.onnx.export(
            ensemble,
            (example,),
            input_names=["x"],
            output_names=_OUTPUTS,
            dynamic_shapes={"x": {0: torch.export.Dim("N")}},
            dynamo=True,
            verbose=False,
        )
    folder.write(target.name, program.model_proto.SerializeToString())


class _Ensemble(nn.Module):
    """The members that have a say, and their vote; see `EnsembleClusterer._vote`, `tempered` and `consensus.vote`.

    Args:
        model: fitted.
    """

    clusters: Tensor
    used: Tensor

    def __init__(self, model: EnsembleClusterer) -> None:
        super().__init__()
        voting = [(member.net, names) for _, member, names in model._voting()]
        if not voting:
            raise InputError("the model cannot be exported: no member has a say.")
        if not all(hasattr(net, "posterior") for net, _ in voting):
            raise InputError(
                f"{type(model).__name__} cannot be exported to ONNX; combination, selective and entropy can. "
                f"Keep it with model.save()."
            )
        self.nets = nn.ModuleList([copy.deepcopy(net).cpu() for net, _ in voting])
        self.register_buffer("clusters", torch.from_numpy(np.stack([_inverse(names) for _, names in voting])))
        used = np.isin(np.arange(model.names_.shape[1]), model.clusters_)
        self.power = 1 / model.calibration_.temperature
        self.register_buffer("used", torch.from_numpy(used.astype(np.float64)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return labels (N,), agreement (N,) and probabilities (N, K) of raw values (N, *shape)."""
        n_points, n_clusters = x.shape[0], len(self.used)  # len(x) would fix the number of points in the file
        total = torch.zeros(n_points, n_clusters, dtype=torch.float64)
        votes = torch.zeros(n_points, n_clusters, dtype=torch.int64)
        for net, clusters in zip(self.nets, self.clusters, strict=True):
            posterior: Tensor = net.posterior(x)  # type: ignore[operator]
            found = posterior.double()[:, clusters] * self.used  # by the consensus' names
            found = found + self.used * (found.sum(1, keepdim=True) == 0)
            greatest = found.amax(1, keepdim=True)
            raised = (found / greatest) ** self.power
            total = total + raised / raised.sum(1, keepdim=True)
            votes = votes + (torch.arange(n_clusters) == found.argmax(1, keepdim=True)).long()
        given = votes.sum(0)  # (K,) a tie goes to what is given less often
        labels = (votes * (len(self.nets) * n_points + 1) - given).argmax(1)
        share = votes.gather(1, labels[:, None])[:, 0].double() / len(self.nets)
        return labels, share, total / len(self.nets)


def _input_type(model: EnsembleClusterer) -> torch.dtype:
    scalings = [member.net.scaling for _, member, _ in model._voting() if hasattr(member.net, "scaling")]
    return torch.float32 if all(scaling.takes_float32() for scaling in scalings) else torch.float64


def _inverse(names: Labels) -> Labels:
    """Return the member's cluster of each name, (K,)."""
    found = np.empty_like(names)
    found[names] = np.arange(len(names))
    return found
