"""The command predict: a kept model labels new points, `distclust predict MODEL DATA`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distclust.command import subcommand
from distclust.errors import InputError, ParameterError, as_word, on_command_line

if TYPE_CHECKING:
    from distclust.contracts import Array, Dataset
    from distclust.methods.base import EnsembleClusterer

_USAGE = "MODEL DATA [coverage=SHARE] [dataset.OPTION=value ...] [--out FILE]"
_DESCRIPTION = """\
Label new points with a model that was kept, without Ray.

MODEL is the folder of a run, or one that model.save() wrote. DATA is a name or a path, as in dataset=; a folder of
images is read at the size, mode and depth that the model was trained on.
coverage=0.9 labels the 90% of the points that the ensemble is surest of; the others get -1.
"""
_EPILOG = """\
FILE gets, a row a point: index, name where points have names, the file, rows and times of windows of recordings,
label, agreement (the share of the voting members behind the label) and probability (the mean of what they give it).

examples:
  {program} predict runs/my-run new.npy
  {program} predict my-model new.npy coverage=0.9 --out labels.parquet
"""


def predict_command(words: Sequence[str]) -> int:
    """Run `predict MODEL DATA`, and return the exit code."""
    parser = subcommand("predict", _USAGE, _DESCRIPTION, _EPILOG)
    parser.add_argument("--out", metavar="FILE", default="labels.parquet", help="the file of labels (labels.parquet)")
    given = parser.parse_intermixed_args(words)
    if given.help:
        print(parser.format_help())
        return 0
    places, coverage, options = _words(given.words)
    _check_places(places[0], places[1], options)
    target = Path(given.out)
    if target.exists():
        raise InputError(f"{target} exists already; choose another file with --out.")
    print(f"distclust: reading {places[0]}, loading torch ...", flush=True)
    from distclust.data import load
    from distclust.distributed.checkpoint import LocalFolder

    model = _model(places[0])
    folder = LocalFolder(target.parent)
    data = load(places[1], **{**as_fitted(model, places[1], options), **options})
    for remark in data.remarks:
        print(f"{data.name}: {on_command_line(remark)}")
    columns = predicted(model, data, coverage)
    folder.write(target.name, _parquet(columns))
    _say(columns, model, target)
    return 0


def as_fitted(model: EnsembleClusterer, place: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that read a folder of images as those were that the model was fitted on.

    Args:
        model: fitted.
        place: name or path of the data.
        options: of the data, as given.
    """
    from distclust.data.catalogue import is_image_folder

    if len(model.shape_) != 3 or model.shape_[0] not in (1, 3) or not is_image_folder(place, options):
        return {}
    channels, height, width = model.shape_
    if channels == 3:
        return {"size": [height, width], "mode": "rgb"}
    depth = {"uint8": 8, "float32": 16}.get(str(model.dtype_))
    return {"size": [height, width], "mode": "grey", "depth": depth}


def predicted(model: EnsembleClusterer, data: Dataset, coverage: float = 1.0) -> dict[str, Array]:
    """Return what a model says of each point, columns (N,).

    These are index, name and `Dataset.origins` where there are any, label, agreement and probability.

    Args:
        model: fitted.
        data: points of the shape of those that were fitted; its true classes are not read.
        coverage: share of the points that get their label, see `EnsembleClusterer.predict`.
    """
    import numpy as np

    from distclust.methods.base import covered

    agreement, probabilities = model.consult(data.x)
    probability = probabilities[np.arange(len(data.x)), agreement.labels]
    return {
        "index": np.arange(len(data.x)) if data.rows is None else data.rows,
        **({} if data.names is None else {"name": np.array(data.names, dtype=object)}),
        **(data.origins or {}),
        "label": covered(agreement, probabilities, coverage),
        "agreement": agreement.share,
        "probability": np.where(agreement.labels >= 0, probability, 0.0),
    }


def _words(words: Sequence[str]) -> tuple[list[str], float, dict[str, Any]]:
    """Return the model's and the data's place, the coverage, and the options of the data."""
    from distclust.spec import split_word

    places = [word for word in words if "=" not in word]
    if len(places) != 2:
        raise InputError(f"give a model and data, as in predict runs/my-run new.npy; got {places}.")
    coverage, options = 1.0, {}
    for key, value in (split_word(word) for word in words if "=" in word):
        if key == "coverage":
            coverage = value
        elif key.startswith("dataset."):
            options[key.removeprefix("dataset.")] = value
        else:
            raise InputError(
                f"{key}={as_word(value)} cannot be used here; coverage=SHARE and dataset.OPTION=value can."
            )
    if isinstance(coverage, bool) or not isinstance(coverage, int | float) or not 0 < coverage <= 1:
        raise ParameterError([f"coverage={as_word(coverage)} cannot be used: it takes a share in (0, 1], as in 0.9."])
    return places, float(coverage), options


def _check_places(model: str, data: str, options: dict[str, Any]) -> None:
    """Check what can be without torch: that there is a model, that there is such data, and its options."""
    from distclust.data.catalogue import check

    if not (_folder(model) / "model.json").is_file():
        raise InputError(
            f"{_folder(model)} holds no model that can be read (it has no model.json). Give the folder of a finished "
            "run, or one that model.save() wrote."
        )
    check(data, options)


def _model(place: str) -> EnsembleClusterer:
    from distclust.methods.saved import load_model

    return load_model(_folder(place))


def _folder(place: str) -> Path:
    """Return the folder of a model: of a run, that in it."""
    path = Path(place)
    return path / "model" if (path / "spec.yaml").is_file() else path


def _parquet(columns: dict[str, Array]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def _say(columns: dict[str, Array], model: EnsembleClusterer, target: Path) -> None:
    labels, agreement = columns["label"], columns["agreement"]
    labelled = labels >= 0
    sizes = [count for k in model.clusters_ if (count := int((labels == k).sum()))]
    if not labelled.any():
        print(f"{len(labels):,} points, none labelled: no member of the model has a say")
    else:
        where = f"in {len(sizes)} clusters of {min(sizes):,} to {max(sizes):,} points"
        print(
            f"{labelled.sum():,} of {len(labels):,} points labelled, "
            f"{where if len(sizes) > 1 else f'all in cluster {labels.max()}'}; on average "
            f"{agreement[labelled].mean():.1%} of the members stand behind a label"
        )
    print(f"labels: {target}")
