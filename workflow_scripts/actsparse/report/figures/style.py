"""One style for all figures: readable in grey and by the colour-blind; same data, same bytes."""

from pathlib import Path

import matplotlib
import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from actsparse.columns import Column
from actsparse.jobs.files import atomic_path

matplotlib.use("agg")

# Okabe and Ito's palette (jfly.uni-koeln.de/color), without its yellow, too pale for a line on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
GREY = "#666666"
INCH_PER_PANEL = 3.2
PANEL_HEIGHT = 2.5
# Of a legend in its font size, rounded up.
INCH_PER_LETTER, INCH_PER_HANDLE, INCH_PER_LEGEND_ROW = 0.058, 0.55, 0.16

matplotlib.rcParams.update(
    {
        "font.size": 8,
        "axes.titlesize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.5,
        "axes.axisbelow": True,
        "lines.linewidth": 1.0,
        "lines.markersize": 4.5,
        "legend.frameon": False,
        "legend.fontsize": 7,
        "figure.constrained_layout.use": True,
        "svg.hashsalt": "actsparse",
        "pdf.fonttype": 42,
    }
)


def look(index: int) -> dict[str, str]:
    """Return colour and marker of a figure's series number `index`; 56 series differ in one of the two."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def ramp(count: int) -> list[tuple[float, ...]]:
    """Return `count` colours for an ordered quantity, dark to light."""
    steps = [0.0 if count == 1 else 0.75 * i / (count - 1) for i in range(count)]
    return [matplotlib.colormaps["viridis"](step) for step in steps]


def panels(rows: int, columns: int, **options) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with rows x columns axes, always as a list of lists."""
    figure = Figure(figsize=(INCH_PER_PANEL * columns, PANEL_HEIGHT * rows))
    return figure, figure.subplots(rows, columns, squeeze=False, **options).tolist()


def log_scale(axis) -> None:
    """Make an axis that has its data logarithmic, with plain numbers at a few ticks."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    if high > 300 * low:
        ticks = matplotlib.ticker.LogLocator(numticks=8)
    elif high > 5 * low:
        ticks = matplotlib.ticker.LogLocator(subs=(1, 2, 5), numticks=8)
    else:
        ticks = matplotlib.ticker.MaxNLocator(5)
    axis.set_major_locator(ticks)
    axis.set_minor_locator(matplotlib.ticker.NullLocator())
    axis.set_major_formatter(matplotlib.ticker.StrMethodFormatter("{x:,.9g}"))


def scale_of(axis, column: Column) -> str:
    """Make an axis logarithmic where its column has no upper bound; return what a label says of it."""
    if not column.large:
        return f" ({column.unit})" if column.unit else ""
    log_scale(axis)
    return " (log scale)"


def legend_below(figure: Figure, *sources: Axes) -> None:
    """Make room for one legend under the figure, in as many columns as fit; equal labels count once."""
    found = {
        label: handle
        for axes in sources
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if not found:  # nothing was drawn, as where every perplexity is NaN
        return
    widest = INCH_PER_LETTER * max(map(len, found)) + INCH_PER_HANDLE
    figure.set_figwidth(max(figure.get_figwidth(), widest))
    columns = min(len(found), int(figure.get_figwidth() / widest))
    figure.set_figheight(figure.get_figheight() + INCH_PER_LEGEND_ROW * -(-len(found) // columns))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns)


def save(figure: Figure, svg: str | Path, pdf: str | Path, title: str, source: str) -> None:
    """Write a figure as SVG and PDF, atomically; `title` and `source` (what it was made of) go into both."""
    dateless = {"Title": title}
    for target, metadata in (
        (svg, {**dateless, "Description": source, "Date": None}),
        (pdf, {**dateless, "Subject": source, "CreationDate": None}),
    ):
        with atomic_path(target) as temporary:
            figure.savefig(temporary, format=Path(target).suffix[1:], metadata=metadata)
