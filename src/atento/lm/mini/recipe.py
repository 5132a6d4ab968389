"""The recipe of the embedded model: corpus, vocabulary, training, card. `make model` runs it."""

import argparse
import json
import random
import shutil
import tempfile
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from atento.embedded.load import MINI
from atento.embedded.tokenizer import WordPiece
from atento.lm.corpus.holdout import held_out_concepts
from atento.lm.mini.card import card
from atento.lm.mini.evaluate import PERIOD, evaluate
from atento.lm.mini.objective import (
    WORDS,
    Meanings,
    TextRows,
    draw_lines,
    language_loss,
    meaning_loss,
    repeated_rows,
)
from atento.lm.mini.training import TrainingSettings, train
from atento.lm.mini.transformer import Transformer, TransformerConfig, gpt2_config, to_gpt2
from atento.lm.mini.wordpiece import END, build_vocabulary, tokenizer_json

THREADS = 2


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the trained weights."""

    seed: int = 1
    steps: int = 2600
    sentences: int = 80_000  # of each language
    alone: int = 500  # steps, the first ones, on repeated rows alone: 24 of half the length
    text_rows: int = 8
    repeated_rows: int = 8
    words: int = 48  # per step, in the comparison with the categories
    other_words: int = 1000  # that stand for the rest of the vocabulary in the softmax
    whole_share: float = 0.03  # of the steps, the last ones, take the whole vocabulary
    meaning_weight: float = 0.5  # of that comparison in the loss
    noise: float = 0.4  # on the token vectors in that comparison, in their standard deviations
    split_share: float = 0.03  # of the words are written in pieces
    learning_rate: float = 2e-3
    weight_decay: float = 0.05


def prepare(recipe: Recipe) -> tuple[WordPiece, TextRows]:
    """Draw the training sentences, number their words, and write them as ids."""
    lines = draw_lines(recipe.sentences, recipe.seed)
    words = {w for group in lines.values() for line in group for w in WORDS.findall(line)}
    words |= set(Meanings.all_words())
    tokenizer = WordPiece(build_vocabulary(words))
    return tokenizer, TextRows(tokenizer, lines, recipe.split_share, recipe.seed)


def train_mini(recipe: Recipe, tokenizer: WordPiece, text: TextRows) -> tuple[Transformer, float]:
    """Train by the recipe; the same recipe gives the same weights, bit for bit, on one machine.

    Returns:
        the model, its weights rounded to float16 as they are shipped, and the seconds it took.
    """
    torch.set_num_threads(THREADS)
    torch.manual_seed(recipe.seed)
    draw, numbers = random.Random(recipe.seed), np.random.default_rng(recipe.seed)  # noqa: S311
    model = Transformer(TransformerConfig(len(tokenizer.vocabulary)))
    meanings = Meanings(tokenizer)
    length = model.config.context + 1
    whole_from = recipe.steps - int(recipe.steps * recipe.whole_share)

    def losses(step: int) -> dict[str, torch.Tensor]:
        if step < recipe.alone:
            again, repeats = repeated_rows(24, length // 2 + 1, len(tokenizer.vocabulary), numbers)
            return {"repeated": language_loss(model, again, repeats, 0)}
        rows = text.draw(recipe.text_rows, length, draw)
        again, repeats = repeated_rows(
            recipe.repeated_rows, length, len(tokenizer.vocabulary), numbers
        )
        every = np.ones(rows.shape, np.bool_)
        return {
            "text": language_loss(
                model, rows, every, None if step >= whole_from else recipe.other_words
            ),
            "repeated": language_loss(model, again, repeats, 0),
            "meaning": recipe.meaning_weight
            * meaning_loss(model, meanings, recipe.words, recipe.noise, draw),
        }

    settings = TrainingSettings(
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
    )
    seconds = train(model, losses, settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())
    return model, seconds


def write_model(model: Transformer, tokenizer: WordPiece, directory: Path) -> None:
    """Write what `transformers` and `atento` both load: config, weights (float16), tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    vocabulary = tokenizer.vocabulary
    config = gpt2_config(model.config) | {
        "bos_token_id": vocabulary[END],
        "eos_token_id": vocabulary[END],
        "dtype": "float32",
    }
    write_json(directory / "config.json", config)
    write_json(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model.config.context,
            "unk_token": "[UNK]",
            "bos_token": END,
            "eos_token": END,
            "clean_up_tokenization_spaces": False,
        },
    )
    (directory / "tokenizer.json").write_text(tokenizer_json(vocabulary), "utf-8")
    weights = {name: weight.half() for name, weight in to_gpt2(model).items()}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    (directory / "model.safetensors").chmod(0o644)  # save_file makes it the owner's alone


def write_json(path: Path, record: dict[str, object]) -> None:
    """Write a record as JSON that people can read."""
    path.write_text(json.dumps(record, ensure_ascii=False, indent=2) + "\n", "utf-8")


def make(recipe: Recipe, out: Path) -> dict[str, Any]:
    """Train, measure and write the model; `out` changes only when all is done.

    Returns:
        the figures, as they stand in `figures.json`.
    """
    tokenizer, text = prepare(recipe)
    model, seconds = train_mini(recipe, tokenizer, text)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".mini-") as aside:
        made = Path(aside)
        write_model(model, tokenizer, made)
        kept = {
            "recipe": asdict(recipe),
            "training": {"minutes": round(seconds / 60, 1), "threads": THREADS},
            "model": {
                "layers": model.config.num_layers,
                "heads": model.config.num_heads,
                "width": model.config.d_model,
                "context": model.config.context,
                "vocabulary": model.config.vocabulary_size,
                "parameters": sum(p.numel() for p in model.parameters()),
                "megabytes": round(sum(f.stat().st_size for f in made.iterdir()) / 1e6, 2),
                "held_out": len(held_out_concepts()),
                "period": PERIOD,
            },
        }
        figures = write_card(made, kept)
        out.mkdir(parents=True, exist_ok=True)
        for file in made.iterdir():
            shutil.move(file, out / file.name)
    return figures


def write_card(directory: Path, kept: dict[str, Any]) -> dict[str, Any]:
    """Measure a model directory and write its `figures.json` and card.

    Args:
        directory: with the weights, and the card and figures to be.
        kept: what measuring cannot tell: "recipe", "training" and "model".

    Returns:
        the figures.
    """
    figures = evaluate(directory, kept["recipe"]["seed"])
    figures |= {name: kept[name] for name in ("recipe", "training", "model")}
    write_json(directory / "figures.json", figures)
    (directory / "README.md").write_text(card(figures), "utf-8")
    return figures


def main(arguments: list[str] | None = None) -> None:
    """Run the recipe from the command line."""
    parser = argparse.ArgumentParser(prog="python -m atento.lm.mini", description=main.__doc__)
    parser.add_argument("--out", type=Path, default=MINI, help="where the model is written")
    for field in fields(Recipe):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default
        )
    parser.add_argument(
        "--measure", action="store_true", help="train nothing: measure OUT again, write its card"
    )
    given = vars(parser.parse_args(arguments))
    out = given.pop("out")
    if given.pop("measure"):
        figures = write_card(out, json.loads((out / "figures.json").read_text("utf-8")))
    else:
        figures = make(Recipe(**given), out)
    print(json.dumps(figures, ensure_ascii=False, indent=2))
