"""Points as small pictures: images, and windows as lines; each as a data URI that needs no file."""

from __future__ import annotations

import base64
import io

import numpy as np

from distclust.contracts import Array
from distclust.report.pictures import COLOURS

_SIDE = 48  # pixels at most of an image
AS_THEY_ARE = (1, 3, 4)  # channels of images: grey, colours, colours and opacity
MOST_LINES = 6  # channels of a window that are drawn
_MOST_STEPS = 96  # of a line
_WIDTH, _HEIGHT = 120, 60  # of a window
_DASHES = ("", "4 2", "1 2")


def png_uri(data: bytes) -> str:
    """Return PNG bytes as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def image(point: Array, low: float, high: float) -> str:
    """Return an image as a data URI, made smaller where a side is above 48 pixels.

    Args:
        point: (C, H, W); 1 channel is grey, 3 are colours, 4 colours and opacity, of others the mean is shown.
        low: what is black.
        high: what is white.
    """
    from PIL import Image

    scaled = (point.astype(np.float64) - low) / ((high - low) or 1.0)
    shown = scaled if len(scaled) in AS_THEY_ARE else scaled.mean(0, keepdims=True)
    levels = np.rint(255 * shown.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)  # (H, W, C)
    picture = Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
    picture.thumbnail((_SIDE, _SIDE))
    sink = io.BytesIO()
    picture.save(sink, format="PNG", optimize=True)
    return png_uri(sink.getvalue())


def window(point: Array, low: float, high: float) -> str:
    """Return a window as a data URI: a line for each of its first six channels, with a colour and dashes of its own.

    Args:
        point: (C, T); of long ones every so many steps are drawn.
        low: the value at the lower edge.
        high: the value at the upper edge.
    """
    steps = np.unique(np.linspace(0, point.shape[1] - 1, _MOST_STEPS).round().astype(int))
    at = np.linspace(1, _WIDTH - 1, len(steps))
    heights = (point[:MOST_LINES, steps].astype(np.float64) - low) / ((high - low) or 1.0)
    lines = "".join(_line(at, (1 - height.clip(0, 1)) * (_HEIGHT - 2) + 1, c) for c, height in enumerate(heights))
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" {size} fill="none" stroke-width="1.2">{lines}</svg>'
    return f"data:image/svg+xml;base64,{base64.b64encode(drawing.encode()).decode()}"


def _line(at: Array, heights: Array, channel: int) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(at, heights, strict=True))
    dashes = f' stroke-dasharray="{_DASHES[channel // 2]}"' if channel > 1 else ""
    return f'<polyline points="{points}" stroke="{COLOURS[channel]}"{dashes}/>'
