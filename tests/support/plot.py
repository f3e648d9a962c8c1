"""Small line charts as SVG, for pictures in READMEs that a command makes: no library, the same bytes every time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 330, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 26, 34
COLOURS = ("#2563eb", "#dc2626")


@dataclass(frozen=True)
class Chart:
    """`lines`: by name, (x, y) points; `log_x`, `log_y`: axes in powers of ten (points at or below 0 are left out)."""

    title: str
    x_label: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    log_x: bool = False
    log_y: bool = False

    def _scaled(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        kept = [(x, y) for x, y in points if (x > 0 or not self.log_x) and (y > 0 or not self.log_y)]
        return [(math.log10(x) if self.log_x else x, math.log10(y) if self.log_y else y) for x, y in kept]

    def svg(self, left: float, top: float) -> str:
        lines = {name: self._scaled(points) for name, points in self.lines.items()}
        every = [point for points in lines.values() for point in points]
        x0, x1 = min(x for x, _ in every), max(x for x, _ in every)
        y0, y1 = min(y for _, y in every), max(y for _, y in every)
        y0 = y0 if self.log_y else 0.0
        inner_w, inner_h = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

        def at(x: float, y: float) -> str:
            px = _LEFT + (x - x0) / (x1 - x0 or 1) * inner_w
            py = _TOP + (1 - (y - y0) / (y1 - y0 or 1)) * inner_h
            return f"{px:.1f},{py:.1f}"

        out = [
            f'<g transform="translate({left},{top})">',
            f'<text x="{_LEFT}" y="16" class="t">{self.title}</text>',
        ]
        out.append(f'<rect x="{_LEFT}" y="{_TOP}" width="{inner_w}" height="{inner_h}" class="f"/>')
        for value in _ticks(x0, x1, log=self.log_x):
            px, _, _ = at(value, y0).partition(",")
            out.append(
                f'<text x="{px}" y="{HEIGHT - _BOTTOM + 14}" class="x">{_text(value, log=self.log_x)}</text>'
            )
        for value in _ticks(y0, y1, log=self.log_y):
            _, _, py = at(x0, value).partition(",")
            out.append(
                f'<text x="{_LEFT - 4}" y="{float(py) + 3:.1f}" class="y">{_text(value, log=self.log_y)}</text>'
            )
        out.append(f'<text x="{_LEFT + inner_w / 2}" y="{HEIGHT - 6}" class="x">{self.x_label}</text>')
        for index, (name, points) in enumerate(lines.items()):
            colour = COLOURS[index % len(COLOURS)]
            path = " ".join(at(x, y) for x, y in points)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
            place = f'x="{WIDTH - _RIGHT - 6}" y="{_TOP + 14 + 13 * index}"'
            out.append(f'<text {place} class="l" style="fill:{colour}">{name}</text>')
        return "\n".join([*out, "</g>"])


def _ticks(low: float, high: float, *, log: bool) -> list[float]:
    if log:
        step = max(1, math.ceil((high - low) / 6))
        return [float(value) for value in range(math.ceil(low), math.floor(high) + 1, step)]
    return [low + (high - low) * i / 4 for i in range(5)]


def _text(value: float, *, log: bool) -> str:
    return f"{10**value:g}" if log else f"{value:.3g}"


def page(charts: Sequence[Chart], columns: int = 2) -> str:
    """One SVG of all charts."""
    rows = -(-len(charts) // columns)
    width, height = columns * WIDTH, rows * HEIGHT
    style = (
        "text{font:10px sans-serif;fill:#444}.t{font-size:12px;font-weight:600}.x{text-anchor:middle}"
        ".y,.l{text-anchor:end}.f{fill:#fff;stroke:#bbb}"
    )
    body = [chart.svg(i % columns * WIDTH, i // columns * HEIGHT) for i, chart in enumerate(charts)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">',
            f"<style>{style}</style>",
            f'<rect width="{width}" height="{height}" fill="#fafafa"/>',
            *body,
            "</svg>\n",
        ]
    )
