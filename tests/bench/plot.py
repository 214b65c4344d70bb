"""Draws the results of `tests.bench.path` and `tests.bench.scale`."""

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


def draw_growth(figures: dict[str, dict[str, list[dict[str, Any]]]], path: Path) -> None:
    """Write what operations cost against sizes: a row a kind of operation, a column an axis.

    Solid and to the left are pages that PostgreSQL looked at, dotted and to the right milliseconds;
    all panels have the same scales.
    """
    kinds = list(
        dict.fromkeys(name.partition(":")[0] for along in figures.values() for name in along)
    )
    with mpl.rc_context({"svg.fonttype": "none", "font.size": 8}):
        figure, panels = plt.subplots(
            len(kinds), len(figures), figsize=(3.2 * len(figures), 2.6 * len(kinds)), squeeze=False
        )
        for row, kind in zip(panels, kinds, strict=True):
            for panel, (axis, along) in zip(row, figures.items(), strict=True):
                _draw_panel(panel, axis, _of_kind(kind, along))
            row[0].set_title(kind, fontsize=10, loc="left")
        figure.tight_layout()
        for row in panels:
            beside = row[-1].get_position()
            figure.legend(
                *row[0].get_legend_handles_labels(),
                loc="upper left",
                bbox_to_anchor=(beside.x1 + 0.04, beside.y1),
                frameon=False,
            )
        figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
        plt.close(figure)


def _draw_panel(panel: Any, axis: str, operations: dict[str, list[dict[str, Any]]]) -> None:
    times = panel.twinx()
    for number, (name, points) in enumerate(operations.items()):
        colour = f"C{number}" if number < 10 else "black"
        sizes = [point["size"] for point in points]
        pages = [max(1, point["buffers"]) for point in points]
        panel.plot(sizes, pages, "o-", color=colour, markersize=3, label=name)
        times.plot(sizes, [point["milliseconds"] for point in points], ":", color=colour)
    for each, limits, unit in ((panel, (1, 1e5), "pages"), (times, (0.01, 1e3), "ms")):
        each.set_xscale("log", base=2 if axis == "workers" else 10)
        each.set_yscale("log")
        each.set_ylim(limits)
        each.set_ylabel(unit)
        each.spines["top"].set_visible(False)
        each.minorticks_off()
        each.set_visible(bool(operations))
    panel.set_xlabel(axis)


def _of_kind(kind: str, along: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return the operations of a kind, by their own names."""
    parted = {tuple(name.split(": ", 1)): points for name, points in along.items()}
    return {name: points for (of, name), points in parted.items() if of == kind}
