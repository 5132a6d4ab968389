"""`python -m experiments.why_attention [--out DIR] [--quick]`: train, measure, draw."""

import argparse
import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from experiments.why_attention.figures import LABELS, accuracy_figure, alignment_figure, save
from experiments.why_attention.models import RecurrentWithAttention
from experiments.why_attention.task import TARGETS, Batch, Sample
from experiments.why_attention.train import MODELS, QUICK, Settings, fit, measure

FORMAT = "atento.why-attention/1"
SHOWN = Sample.of(  # a date of each language, both of them days that training never holds
    [date(2034, 7, 21), date(1959, 3, 7)], ["en", "es"], [0, 0]
)
LOSS_EVERY = 25  # steps


def run(settings: Settings, console: Console) -> dict[str, Any]:
    """Train and measure all models; everything that the pictures and the JSON hold."""
    torch.set_num_threads(settings.threads)
    results: dict[str, Any] = {
        "format": FORMAT,
        "settings": asdict(settings),
        "torch": torch.__version__,
        "models": {},
    }
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("step {task.completed}/{task.total}  loss {task.fields[loss]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        tasks = {
            name: bar.add_task(LABELS[name], total=settings.steps, loss="–") for name in MODELS
        }
        for name, kind in MODELS.items():
            torch.manual_seed(settings.seed)
            model = kind()
            losses: list[list[float]] = []

            def report(step: int, loss: float, task: Any = tasks[name], kept: Any = losses) -> None:
                bar.update(task, completed=step, loss=f"{loss:.3f}")
                if step % LOSS_EVERY == 0 or step == settings.steps:
                    kept.append([step, loss])

            seconds = fit(model, settings, report)
            measured = measure(model, settings)
            results["models"][name] = {
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "seed": settings.seed,
                "seconds": seconds,
                "losses": losses,
                "accuracy": [asdict(one) for one in measured],
            }
            if not console.is_terminal:  # a log shows no bar
                console.print(f"{LABELS[name]}: {settings.steps} steps in {seconds:.0f} s")
            if isinstance(model, RecurrentWithAttention):
                results["alignment"] = alignment(model)
    return results


def alignment(model: RecurrentWithAttention) -> dict[str, Any]:
    """The model writes `SHOWN`: its words, its numbers, and the weights between them."""
    batch = Batch.of([SHOWN])
    written = model.write(batch.source, batch.keep, len(SHOWN.numbers))
    return {
        "source": list(SHOWN.words),
        "target": list(SHOWN.numbers),
        "written": [TARGETS[number] for number in written[0].tolist()],
        "weights": model.alignment(batch.source[0], written[0]).tolist(),
    }


def table(results: dict[str, Any]) -> Table:
    """Accuracy by length, a column for each model."""
    made = Table("dates", *(LABELS[name] for name in results["models"]))
    for rows in zip(*(model["accuracy"] for model in results["models"].values()), strict=True):
        beyond = " *" * (rows[0]["dates"] > results["settings"]["longest"])
        shares = (f"{row['date_accuracy']:.1%}" for row in rows)
        made.add_row(f"{rows[0]['dates']}{beyond}", *shares)
    made.caption = "dates written without a mistake; * longer than any list in training"
    return made


def main(arguments: list[str] | None = None) -> None:
    """Train three models on dates in words, and show what becomes of them as lists grow."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.why_attention", description=main.__doc__
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/why_attention"), help="the folder for the results"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few steps on short lists: whether everything runs"
    )
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    console = Console()
    results = run(QUICK if given.quick else Settings(), console)
    path = given.out / "why_attention.json"
    aside = given.out / ".why_attention.tmp.json"
    aside.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    aside.replace(path)
    written = [
        path,
        *save(accuracy_figure(results), given.out, "accuracy"),
        *save(alignment_figure(results["alignment"]), given.out, "alignment"),
    ]
    console.print(table(results))
    for file in written:
        console.print(f"-> {file}", soft_wrap=True, highlight=False)


if __name__ == "__main__":
    main()
