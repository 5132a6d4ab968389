"""The two pictures: accuracy against length, and where the writer looked. Records in, files out."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["accuracy_figure", "alignment_figure", "save"]

# Okabe & Ito's colours, told apart with any colour vision; markers and lines differ as well.
STYLES: dict[str, Any] = {
    "recurrent": {"color": "#D55E00", "marker": "o", "linestyle": "--"},
    "recurrent_with_attention": {"color": "#0072B2", "marker": "s", "linestyle": "-"},
    "transformer": {"color": "#009E73", "marker": "^", "linestyle": "-."},
}
LABELS = {
    "recurrent": "GRU, one vector",
    "recurrent_with_attention": "GRU with additive attention",
    "transformer": "Transformer",
}
INK, QUIET = "#222222", "#666666"
TEXT: Any = {"font.family": ["DejaVu Sans"], "svg.fonttype": "none", "svg.hashsalt": "atento"}


def accuracy_figure(results: dict[str, Any]) -> "Figure":
    """Accuracy against the number of dates; what no training list was as long as is shaded."""
    from matplotlib.ticker import PercentFormatter

    figure, axes = _canvas(7.2, 4.4)
    longest, tested = results["settings"]["longest"], results["settings"]["tested"]
    end = max(*tested, longest) + 0.4
    axes.axvspan(longest + 0.5, end, color="#f0f0f0", linewidth=0)
    axes.text(
        longest + 0.6,
        1.12,
        "longer than any\nlist in training",
        color=QUIET,
        fontsize=8.5,
        va="top",
    )
    for name, model in results["models"].items():
        lengths = [one["dates"] for one in model["accuracy"]]
        shares = [one["date_accuracy"] for one in model["accuracy"]]
        axes.plot(lengths, shares, label=LABELS[name], linewidth=1.8, markersize=6, **STYLES[name])
    axes.set_xlim(min(tested) - 0.4, end)
    axes.set_ylim(-0.03, 1.14)
    axes.set_xticks(tested)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.grid(axis="y", color="#dddddd", linewidth=0.7)
    axes.set_axisbelow(True)
    words = results["models"]["transformer"]["accuracy"]
    per_date = words[-1]["words"] / words[-1]["dates"]
    axes.set_xlabel(f"dates in the list (about {per_date:.0f} words each)")
    axes.set_ylabel("dates written without a mistake")
    figure.suptitle("Lists of dates in words, English and Spanish, to ISO dates", fontsize=11)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False, fontsize=9.5)
    return figure


def alignment_figure(alignment: dict[str, Any]) -> "Figure":
    """Where the writer looked: a row for each number that it wrote, a column for each word read."""
    source, written = alignment["source"], alignment["written"]
    figure, axes = _canvas(0.34 * len(source) + 2.2, 0.34 * len(written) + 1.7)
    cells = axes.pcolormesh(
        alignment["weights"], cmap="Blues", vmin=0, vmax=1, edgecolors="#e4e4e4", linewidth=0.6
    )
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_xticks(
        [column + 0.5 for column in range(len(source))],
        source,
        rotation=50,
        ha="left",
        rotation_mode="anchor",
    )
    # 20·· ··34 -07 -21: the number with its place in 2034-07-21
    places = ("{}··", "··{}", "-{}", "-{}")
    labels = [places[row % len(places)].format(number) for row, number in enumerate(written)]
    axes.set_yticks([row + 0.5 for row in range(len(written))], labels)
    for row in range(len(places), len(written), len(places)):
        axes.axhline(row, color=QUIET, linewidth=1)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_ylabel("written ↓", color=QUIET)
    axes.set_xlabel("read →", color=QUIET)
    axes.xaxis.set_label_position("bottom")
    bar = figure.colorbar(cells, ax=axes, fraction=0.02, pad=0.02, ticks=[0, 0.5, 1])
    bar.set_label("weight", color=QUIET)
    bar.outline.set_visible(False)
    return figure


def save(figure: "Figure", folder: Path, name: str) -> list[Path]:
    """Write NAME.svg (text as text) and NAME.png, each aside first and then renamed."""
    import matplotlib as mpl

    written = []
    for ending in ("svg", "png"):
        path = folder / f"{name}.{ending}"
        aside = folder / f".{name}.tmp.{ending}"
        # no date inside, so that two runs write the same file
        metadata = {"Date": None} if ending == "svg" else {}
        with mpl.rc_context(TEXT):
            figure.savefig(aside, dpi=160, metadata=metadata, bbox_inches="tight")
        aside.replace(path)
        written.append(path)
    return written


def _canvas(width: float, height: float) -> "tuple[Figure, Axes]":
    """An empty figure of these inches, of no window system's."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(TEXT):
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes
