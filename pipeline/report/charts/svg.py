"""Elements of SVG, and the frame of a chart: grid, ticks and titles.

Horizontal places are percentages, so that a chart fills any width without scaling its text;
vertical places are pixels. Colours are classes of the page's style, which has a light and a dark
scheme. All text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.report.charts.axes import Axis

COLORS = 6
"""Classes `c0` to `c5` of the page's style."""

CHAR_PX = 6.6
"""Width of a character of a tick, roughly."""

MOST_LABEL_CHARS = 26


def element(name: str, content: str = "", **attributes: object) -> Markup:
    """An element of SVG or HTML.

    Args:
        name: Of the element.
        content: Inside it; escaped unless it is markup.
        attributes: A trailing underscore is dropped, and others become hyphens.
    """
    given = Markup(" ").join(
        Markup('{}="{}"').format(key.rstrip("_").replace("_", "-"), _number(value))
        for key, value in attributes.items()
    )
    return Markup("<{}{}{}>{}</{}>").format(name, " " if given else "", given, content, name)


def joined(parts: Iterable[Markup]) -> Markup:
    """Elements one after another."""
    return Markup("").join(parts)


def percent(share: float) -> str:
    """A horizontal place."""
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"


def shortened(label: str) -> str:
    """A label that fits beside a chart."""
    return label if len(label) <= MOST_LABEL_CHARS else label[: MOST_LABEL_CHARS - 1] + "…"


def bar(
    left: float, width: float, top: float, height: float, color: int, said: str, more: str = ""
) -> Markup:
    """A rectangle that says its value when it is pointed at.

    Args:
        left: Of 0 to 1.
        width: Of 0 to 1.
        top: In pixels.
        height: In pixels.
        color: Number of its colour.
        said: Shown by the browser.
        more: Further classes.
    """
    return element(
        "rect",
        element("title", said),
        x=percent(left),
        y=top,
        width=percent(width),
        height=max(height, 0.0),
        class_=f"c{color % COLORS} {more}".strip(),
    )


def legend(names: Sequence[str]) -> Markup:
    """Names of the colours of a chart, in order; nothing for a single one."""
    if len(names) < 2:
        return Markup()
    keys = (
        element("span", element("i", class_=f"c{index % COLORS}") + Markup(" {}").format(name))
        for index, name in enumerate(names)
    )
    return element("p", joined(keys), class_="legend")


@dataclass(frozen=True)
class Frame:
    """The plane of a chart.

    Attributes:
        height: Pixels between its upper and its lower edge.
        x: Horizontal axis; None without ticks.
        x_title: What is on it.
        y: Vertical axis; None where rows have names.
        y_title: What is on it.
        names: Names of rows, with the vertical middle of each in pixels.
    """

    height: int
    x: Axis | None
    x_title: str
    y: Axis | None = None
    y_title: str = ""
    names: tuple[tuple[str, float], ...] = ()

    def top(self, value: float) -> float:
        """The vertical place of a value in pixels."""
        return self.height * (1 - self.y.share(value)) if self.y else 0.0

    def drawn(self, marks: Iterable[Markup], label: str) -> Markup:
        """The chart with its marks over the grid.

        Args:
            marks: Drawn in order.
            label: What a reader who does not see it is told.
        """
        names = [*self.names]
        grid: list[Markup] = []
        if self.y:
            for tick in self.y.ticks:
                names.append((self.y.text(tick), self.top(tick)))
                grid.append(self._line(0, 1, self.top(tick), self.top(tick)))
        if self.x:
            for tick in self.x.ticks:
                place = self.x.share(tick)
                grid.append(self._line(place, place, 0, self.height))
                grid.append(_text(self.x.text(tick), percent(place), self.height + 17, "middle"))
        grid += [_text(shortened(name), -8, place + 4, "end") for name, place in names]
        if self.x_title:
            grid.append(_text(self.x_title, "50%", self.height + 36, "middle"))
        left = 16 + round(CHAR_PX * max((len(shortened(name)) for name, _ in names), default=0))
        above = 8
        if self.y_title:
            above = 26
            grid.append(_text(self.y_title, -left, -12, "start"))
        plane = element(
            "svg",
            joined([*grid, *marks]),
            role="img",
            aria_label=label,
            height=self.height,
        )
        padding = f"padding: {above}px 22px {46 if self.x_title else 26}px {left}px"
        return element("div", plane, class_="chart", style=padding)

    @staticmethod
    def _line(left: float, right: float, top: float, bottom: float) -> Markup:
        return element("line", x1=percent(left), x2=percent(right), y1=top, y2=bottom, class_="g")


def _text(text: str, x: object, y: float, anchor: str) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor)


def _number(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value
