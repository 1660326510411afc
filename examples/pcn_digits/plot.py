#!/usr/bin/env python3
"""Draws accuracy against staleness from the relay suite's results.

    plot.py RELAY.json OUT.svg
"""

import json
import pathlib
import re
import sys

WIDTH, HEIGHT, MARGIN = 640, 400, 60
# (ending of a result's name, staleness, series)
POINTS = [
    ("synchronous", 0, "rule"), ("staleness_6", 6, "rule"), ("staleness_18", 18, "rule"),
    ("staleness_54_rule", 54, "rule"),
    ("synchronous", 0, "no rule"), ("staleness_6", 6, "no rule"), ("staleness_18", 18, "no rule"),
    ("staleness_54_no_rule", 54, "no rule"),
    ("staleness_54_stash_rule", 54, "stashed weights, rule"),
]
SERIES = {"no rule": "#c0392b", "rule": "#1f618d", "stashed weights, rule": "#7d6608"}


def read_points(results):
    """{series: [(staleness, accuracy)]} of the first image set in the results."""
    values = {r["name"]: r["value"] for r in results if r["unit"] == "%"}
    first = next(name for name in values if name.endswith("_synchronous"))
    image_set = re.sub("_synchronous$", "", first)
    found = {name: [] for name in SERIES}
    for ending, staleness, series in POINTS:
        value = values.get(f"{image_set}_{ending}")
        if value is not None:
            found[series].append((staleness, value))
    return image_set, found


def draw(image_set, points):
    """The picture as SVG."""
    accuracies = [y for series in points.values() for _, y in series]
    low, high = min(accuracies) - 1, max(accuracies) + 1

    def place(x, y):
        return (MARGIN + x / 60 * (WIDTH - 2 * MARGIN),
                HEIGHT - MARGIN - (y - low) / (high - low) * (HEIGHT - 2 * MARGIN))

    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
             'font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             f'<text x="{WIDTH / 2}" y="24" text-anchor="middle" font-size="15">Accuracy against '
             f'staleness ({image_set.replace("_", " ")})</text>',
             f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">staleness of the first '
             'block, in updates</text>']
    for staleness in (0, 6, 18, 54):
        x, y = place(staleness, low)
        lines.append(f'<text x="{x:.1f}" y="{y + 18:.1f}" text-anchor="middle">{staleness}</text>')
    for step in range(5):
        value = low + (high - low) * step / 4
        x, y = place(0, value)
        lines.append(f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{WIDTH - MARGIN}" y2="{y:.1f}" '
                     'stroke="#dddddd"/>')
        lines.append(f'<text x="{x - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">'
                     f'{value:.1f} %</text>')
    for number, (name, color) in enumerate(SERIES.items()):
        corners = [place(x, y) for x, y in points[name]]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{color}"/>' for x, y in corners]
        lines.append(f'<text x="{MARGIN + 12}" y="{HEIGHT - MARGIN - 12 - 16 * number}" '
                     f'fill="{color}">{name}</text>')
    return "\n".join(lines + ["</svg>", ""])


def main():
    """Command line."""
    if len(sys.argv) != 3:
        print(__doc__.strip())
        sys.exit(2)
    results = json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))
    pathlib.Path(sys.argv[2]).write_text(draw(*read_points(results)), encoding="utf-8")


if __name__ == "__main__":
    main()
