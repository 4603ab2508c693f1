"""Images: where their channels are."""

from __future__ import annotations

from distclust.contracts import Array
from distclust.errors import DataError, given

CHANNELS = (1, 3, 4)  # grey, colour, colour and opacity


def as_images(x: Array, channels: str | None = None) -> Array:
    """Return images as (N, C, H, W), a view of `x`.

    Args:
        x: (N, H, W) grey, (N, C, H, W) or (N, H, W, C).
        channels: "first" or "last" says where the channels of four-dimensional data are. None: they are last if the
            last dimension is 1, 3 or 4 and the second is not; otherwise first.

    Raises:
        DataError: wrong number of dimensions, or `channels` said of images without channels.
    """
    if x.ndim not in (3, 4):
        raise DataError(f"images must be (N, H, W), (N, C, H, W) or (N, H, W, C); x has shape {x.shape}.")
    if x.ndim == 3:
        if channels is not None:
            raise DataError(f"{given('channels', channels)} is for 4-d images; x has shape {x.shape}. Leave it out.")
        return x[:, None]
    last = x.shape[3] in CHANNELS and x.shape[1] not in CHANNELS if channels is None else channels == "last"
    return x.transpose(0, 3, 1, 2) if last else x
