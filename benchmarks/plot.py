"""A plot with a logarithmic scale each way, as SVG: what stays flat is seen to stay flat."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 70, 190, 20, 50
COLOURS = ("#0b6e99", "#c2410c", "#4d7c0f")


class Curve(NamedTuple):
    """One of the lines."""

    label: str
    values: Sequence[float]


def plot(label: str, lengths: Sequence[int], curves: Sequence[Curve]) -> str:
    """Return the SVG. `label` is that of the lengths, which go to the right."""
    lowest = floor(log10(min(value for curve in curves for value in curve.values)))
    highest = ceil(log10(max(value for curve in curves for value in curve.values)))

    def x(length: float) -> float:
        first, last = log10(lengths[0]), log10(lengths[-1])
        return LEFT + (log10(length) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (log10(value) - lowest) / (highest - lowest) * (HEIGHT - TOP - BOTTOM)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for power in range(lowest, highest + 1):
        at = y(10.0**power)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:,g}</text>')
    for length in lengths:
        parts.append(f'<text x="{x(length):.1f}" y="{HEIGHT - 28}" text-anchor="middle">{length:,}</text>')
    parts.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{label}</text>')
    for curve, colour in zip(curves, COLOURS, strict=False):
        points = [(x(length), y(value)) for length, value in zip(lengths, curve.values, strict=True)]
        path = " ".join(f"{across:.1f},{up:.1f}" for across, up in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across:.1f}" cy="{up:.1f}" r="3" fill="{colour}"/>' for across, up in points]
        across, up = points[-1]
        parts.append(f'<text x="{across + 10:.1f}" y="{up + 4:.1f}" fill="{colour}">{curve.label}</text>')
    return "\n".join([*parts, "</svg>", ""])
