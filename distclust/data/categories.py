"""Categories as numbers: one-hot or by their place in an order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def is_text(column: Any) -> bool:
    """Return whether a pyarrow.ChunkedArray holds texts or categories."""
    import pyarrow.types as pt

    kind = column.type
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_dictionary(kind)


def levels(column: Any) -> list[Any]:
    """Return the categories of a column in the order declared with them, else sorted."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        return sorted(column.drop_null().unique().to_pylist())
    if column.type.ordered and column.num_chunks:
        return list(column.unify_dictionaries().chunk(0).dictionary.to_pylist())
    return sorted(column.cast(column.type.value_type).drop_null().unique().to_pylist())


def encoded(column: Any, categories: str) -> tuple[npt.NDArray[np.float64], list[Any]]:
    """Return a column of categories as numbers, and the category that each of them stands for.

    Args:
        column: (N,) a pyarrow.ChunkedArray of texts or categories.
        categories: "one-hot" or "ordinal".

    Returns:
        (N, K) ones and zeros and the K categories that occur, or (N, 1) their places in the order of `levels`, counted
        from 0, and all of them; NaN where there is none.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    known = levels(column)
    values = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    places = pc.index_in(values, pa.array(known, values.type)).cast(pa.float64()).to_numpy()  # NaN where it is in none
    if categories == "ordinal":
        return places[:, None], known
    present = np.unique(places[~np.isnan(places)]).astype(int)
    ones = (places[:, None] == present).astype(np.float64)
    ones[np.isnan(places)] = np.nan
    return ones, [known[place] for place in present]
