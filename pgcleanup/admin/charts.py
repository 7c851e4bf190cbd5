"""Bars as inline SVG, rendered by the server: numbers in, coordinates out. No script, no style, nothing fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from django.utils.formats import date_format

# About as wide as it is shown: the words in it are scaled with it.
WIDTH, HEIGHT = 350, 110
LEFT, TOP, BOTTOM = 2, 16, 18
_GAP = 0.2


@dataclass(frozen=True, slots=True)
class Bar:
    """One day. Coordinates as text: a template would write numbers the way the user's language does."""

    x: str
    y: str
    width: str
    height: str
    day: str
    value: str
    link: str
    empty: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar for each day, the highest one labelled."""

    key: str
    title: str
    summary: str
    """The whole of it in a sentence, for who does not see it."""
    bars: tuple[Bar, ...]
    top: str
    first: str
    last: str
    tone: str = "count"
    line: str = ""
    """Where a limit lies, if it is within the chart."""
    line_label: str = ""
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def view_box(self) -> str:
        return f"0 0 {self.width} {self.height}"

    @property
    def base(self) -> str:
        """The height of the zero line."""
        return str(self.height - BOTTOM)

    @property
    def text_y(self) -> str:
        """Where the dates stand."""
        return str(self.height - 4)

    @property
    def right(self) -> str:
        """Where the newest day ends."""
        return str(self.width - LEFT)


def bars(
    key: str,
    title: str,
    days: Sequence[date],
    values: Sequence[float],
    words: Callable[[float], str],
    summary: str,
    *,
    links: Sequence[str] = (),
    tone: str = "count",
    limit: tuple[float, str] | None = None,
) -> Chart:
    """Return a chart of one value for each day, oldest first."""
    highest = max([*values, 0])
    room = HEIGHT - TOP - BOTTOM
    step = (WIDTH - 2 * LEFT) / max(len(days), 1)
    drawn = []
    for number, (day, value) in enumerate(zip(days, values, strict=True)):
        # What is there at all can be seen.
        height = max(room * value / highest, 2) if value and highest else 0
        drawn.append(
            Bar(
                x=f"{LEFT + number * step + step * _GAP / 2:.1f}",
                y=f"{TOP + room - height:.1f}",
                width=f"{step * (1 - _GAP):.1f}",
                height=f"{height:.1f}",
                day=date_format(day, "MONTH_DAY_FORMAT"),
                value=words(value),
                link=links[number] if links else "",
                empty=not value,
            )
        )
    line = f"{TOP + room - room * limit[0] / highest:.1f}" if limit and highest and limit[0] <= highest else ""
    return Chart(
        key=key,
        title=title,
        summary=summary,
        bars=tuple(drawn),
        top=words(highest) if highest else "",
        first=date_format(days[0], "MONTH_DAY_FORMAT") if days else "",
        last=date_format(days[-1], "MONTH_DAY_FORMAT") if days else "",
        tone=tone,
        line=line,
        line_label=limit[1] if limit and line else "",
    )
