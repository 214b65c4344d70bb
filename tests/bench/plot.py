"""Draws the results of `tests.bench.path`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.use("svg")
# The same picture for the same figures: no dates and no random names in it.
mpl.rcParams["svg.hashsalt"] = "rs-delivery"

_COLOURS = {"ours": "#1f6f8b", "copy": "#9aa5ab", "other": "#d1b48c"}


def _colour(way: str) -> str:
    if way.startswith("ours"):
        return _COLOURS["ours"]
    return _COLOURS["copy" if "copy" in way else "other"]


def draw(results: dict[str, dict[str, dict[str, Any]]], path: Path) -> None:
    """Write a bar chart of the rates, one panel a payload."""
    rows = -(-len(results) // 2)
    figure, panels = plt.subplots(rows, 2, figsize=(11, 2.9 * rows), squeeze=False)
    for panel in panels.flat[len(results) :]:
        panel.set_visible(False)
    for panel, (payload, medians) in zip(panels.flat, results.items(), strict=False):
        ways = list(medians)[::-1]
        rates = [medians[way]["mb_s"] for way in ways]
        bars = panel.barh(ways, rates, color=[_colour(way) for way in ways])
        panel.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
        panel.set_title(payload, fontsize=10, loc="left")
        panel.set_xlabel("MB/s (median)", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.margins(x=0.12)
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
