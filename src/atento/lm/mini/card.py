"""The model card: every number in it comes from the measured figures."""

from pathlib import Path
from typing import Any

# Read with this file: an edit while a model trains must not meet older code at the end.
TEMPLATE = (Path(__file__).parent / "card.md").read_text("utf-8")


def best_head(scores: list[list[float]]) -> tuple[tuple[int, int], float]:
    """Return (layer, head) of the highest score, and the score."""
    at = max(
        ((layer, head) for layer, row in enumerate(scores) for head in range(len(row))),
        key=lambda place: scores[place[0]][place[1]],
    )
    return at, scores[at[0]][at[1]]


def shortfall(figures: dict[str, Any]) -> str:
    """Say which of the figures asked for are not reached."""
    lines = [
        f"- {name}: {reached:.2f}, where {asked:.2f} was asked for."
        for name, reached, asked in (
            ("best previous-token head", best_head(figures["previous_token"])[1], 0.6),
            ("best induction head", best_head(figures["induction"])[1], 0.6),
            ("odd-one-out probes passed", sum(figures["probes"].values()) / 100, 0.9),
        )
        if reached < asked
    ]
    if not lines:
        return ""
    return "\n".join(["", "**Not reached**, of what was asked for:", "", *lines, ""])


def card(figures: dict[str, Any]) -> str:
    """Write the card from the measured figures."""
    previous_at, previous_best = best_head(figures["previous_token"])
    induction_at, induction_best = best_head(figures["induction"])
    table = "\n".join(
        f"| {layer}.{head} | {previous:.3f} | {induction:.3f} |"
        for layer, rows in enumerate(
            zip(figures["previous_token"], figures["induction"], strict=True)
        )
        for head, (previous, induction) in enumerate(zip(*rows, strict=True))
    )
    failed = "".join(f"\n- {line}" for line in figures["probes_failed"])
    recipe = figures["recipe"]
    return TEMPLATE.format(
        **figures,
        **figures["training"],
        **figures["model"],
        previous_at=previous_at,
        previous_best=previous_best,
        induction_at=induction_at,
        induction_best=induction_best,
        english=figures["probes"]["en"],
        spanish=figures["probes"]["es"],
        heads_table=table,
        failed=f"\nThe probes that it fails:\n{failed}\n" if failed else "",
        shortfall=shortfall(figures),
        steps=recipe["steps"],
        seed=recipe["seed"],
        alone=recipe["alone"],
        repeated=recipe["repeated_rows"],
        rows=recipe["repeated_rows"] + recipe["text_rows"],
    )
