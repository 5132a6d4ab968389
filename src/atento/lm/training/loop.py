"""The loop: rows, loss, gradients, step; now and then a validation and a checkpoint."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from atento._errors import AtentoError, InputError
from atento.equation import front
from atento.lm.checkpoints import load_model, save_model
from atento.lm.generating.generate import generate
from atento.lm.plain import Joined, is_plain, plain_logits
from atento.lm.training.board import board_of
from atento.lm.training.checkpoint import (
    kept_checkpoints,
    moments_of,
    read_checkpoint,
    write_checkpoint,
)
from atento.lm.training.interrupt import noticed
from atento.lm.training.log import Log
from atento.lm.training.optimizer import adamw, learning_rate
from atento.lm.training.progress import Told
from atento.lm.training.run import CHECKPOINTS, TRAINING, VALIDATION
from atento.lm.training.settings import TrainingSettings
from atento.lm.training.shards import sharded, whole, whole_model
from atento.lm.training.speed import compiled
from atento.lm.training.team import Team
from atento.lm.training.token_file import draw, open_tokens
from atento.lm.watching.watcher import watcher_of

if TYPE_CHECKING:
    from atento.lm.transformer import Transformer

__all__ = ["Loop", "TrainingError"]

ROWS_PER_LOG = 10
"""So many rows of the log between two validations."""

SAMPLE = 120
"""Tokens of a sample."""

PROMPT = 8
"""Tokens of the corpus that a sample goes on from."""


class TrainingError(AtentoError):
    """A training that cannot go on."""


class Loop:
    """One run's training, from its last checkpoint on.

    Args:
        folder: of a run that has begun.
        settings: of the run.
        team: the processes that share the work.
        device: where it is computed.
        progress: whether it is shown.
    """

    def __init__(
        self,
        folder: Path,
        settings: TrainingSettings,
        team: Team,
        device: torch.device,
        *,
        progress: bool,
    ) -> None:
        checkpoints = kept_checkpoints(folder / CHECKPOINTS)
        if not checkpoints:
            raise InputError(
                f"the run in {folder} has no checkpoint to go on from: train anew, in another "
                "folder.",
                name="lm_no_checkpoint",
                folder=folder,
            )
        self.folder, self.settings, self.team, self.device = folder, settings, team, device
        self.training = open_tokens(folder / TRAINING)
        self.validation = open_tokens(folder / VALIDATION)
        loaded = load_model(checkpoints[-1])
        self.model: Transformer = sharded(loaded, device) if team.shards else loaded.to(device)
        self.optimizer = adamw(self.model, settings)
        self.state = read_checkpoint(checkpoints[-1], self.model, self.optimizer)
        if team.rank:  # rank 0 goes on with the random numbers of the checkpoint
            torch.manual_seed(settings.seed + 7919 * team.rank + self.state["step"])
        self.log = Log(folder, until=self.state["step"])
        self.told = Told(settings.steps, shown=progress and team.leads)
        self.board = board_of(folder, self.state["step"]) if team.leads else None
        self.watcher = watcher_of(folder, self.model, self.state["step"]) if team.leads else None
        faster = settings.compile and not team.shards
        self.computed = team.wrapped(compiled(self.model, device) if faster else self.model)
        alone = self.computed is self.model and not team.shards
        self.plain = Joined(self.model) if alone and is_plain(self.model, training=True) else None

    def go(self) -> str:
        """Train to the end, or to Ctrl-C; why it ended."""
        every = self.settings.evaluate_every
        rows = max(1, every // ROWS_PER_LOG)
        ended = "steps"
        since, tokens_since = time.perf_counter(), 0
        with noticed() as pressed, self.told:
            self.told.start(self.state["step"])
            since += self._watch()
            while self.state["step"] < self.settings.steps:
                gradient = self._step()
                step = self.state["step"]
                tokens_since += self.settings.batch * self.model.config.context
                last = step == self.settings.steps
                validates = step % every == 0 or last
                if validates or step % rows == 0:
                    seconds = time.perf_counter() - since
                    self._log(gradient, seconds, tokens_since, validates)
                    since, tokens_since = time.perf_counter(), 0
                since += self._watch()
                if validates:
                    self._keep(validated=True)
                    since = time.perf_counter()
                    if self._patience_is_over():
                        ended = "patience"
                        self._watch(last=True)
                        break
                if self.team.any(pressed()):
                    if not validates:
                        self._keep(validated=False)
                    ended = "interrupted"
                    break
        if self.board is not None:
            self.board.close()
        return ended

    def _step(self) -> float:
        """One update; the length of its gradient."""
        settings, step = self.settings, self.state["step"]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        ids = torch.from_numpy(
            draw(self.training, settings.batch, self._length, settings.seed, step)
        )
        parts = self.team.part(ids).chunk(settings.accumulate)
        if not self.computed.training:  # setting it goes through all modules
            self.computed.train()
        total = torch.zeros((), dtype=torch.float64)
        for number, part in enumerate(parts):
            with self.team.quiet(self.computed, number == len(parts) - 1):
                loss = self._loss(part) / len(parts)
                loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach().cpu()
        loss_now = self.team.mean(total)
        if not math.isfinite(loss_now):
            raise self._lost("loss", loss_now)
        if self.plain is not None:
            self.plain.hand_over()
        gradient = self._clipped()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.state["step"] = step + 1
        self.state["losses"].append(loss_now)
        self.told.advance(loss_now)
        return gradient

    def _clipped(self) -> float:
        """The length of the gradient, which is then at most `clip`; 0: as long as it is."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        total = nn.utils.get_total_norm(gradients)
        length, longest = float(whole(total)), self.settings.clip or math.inf
        if not math.isfinite(length):
            raise self._lost("gradient", length)
        if length > longest:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), longest, total)
        return length

    def _lost(self, what: str, value: float) -> TrainingError:
        """What to say when a step's loss or gradient is no number."""
        step, last = self.state["step"] + 1, kept_checkpoints(self.folder / CHECKPOINTS)[-1].name
        return TrainingError(
            f"the {what} of step {step} is {value}: the model keeps its last checkpoint ({last}). "
            "A lower learning_rate, a longer warm_up or a smaller clip may help.",
            name=f"lm_{what}",
            step=step,
            loss=value,
            checkpoint=last,
        )

    @property
    def _length(self) -> int:
        """Tokens of a row: the context, and one more to be foretold."""
        return self.model.config.context + 1

    def _loss(self, ids: Tensor) -> Tensor:
        """The mean of −log p(next token) over rows (batch, token)."""
        ids = ids.to(self.device)
        half = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            logits = self._logits(ids[:, :-1])
        return functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())

    def _logits(self, ids: Tensor) -> Tensor:
        if self.plain is not None and front.watcher is None:
            return plain_logits(self.model, ids, self.plain.blocks)
        logits: Tensor = self.computed(ids)
        return logits

    @torch.no_grad()
    def _validated(self) -> float | None:
        """The loss on rows that are never trained on; None where the corpus is too short."""
        if len(self.validation) < self._length:
            return None
        rows = draw(self.validation, self.settings.evaluate_rows, self._length, 0, 0)
        self.model.eval()
        losses = [
            self._plain_loss(part) * len(part)
            for part in torch.split(torch.from_numpy(rows), self.settings.batch)
        ]
        return sum(losses) / len(rows)

    def _plain_loss(self, ids: Tensor) -> float:
        ids = ids.to(self.device)
        logits = self.model(ids[:, :-1])
        return float(functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()))

    def _log(self, gradient: float, seconds: float, tokens: int, validates: bool) -> None:
        """A row of numbers; after a validation also whether it is the best."""
        validation = self._validated() if validates else None
        losses, self.state["losses"] = self.state["losses"], []
        step = self.state["step"]
        row = {
            "step": step,
            "tokens": step * self.settings.batch * self.model.config.context,
            "loss": sum(losses) / len(losses),
            "validation": validation,
            "learning_rate": learning_rate(step - 1, self.settings),
            "gradient": gradient,
            "tokens_per_second": tokens / seconds,
            "seconds": seconds,
        }
        self.log.add(**row)
        if self.board is not None:
            self.board.add(row)
        if validates:
            self.told.row(row)
            if validation is not None:
                best = self.state["best"]
                better = best is None or validation < best
                self.state["best"] = validation if better else best
                self.state["worse"] = 0 if better else self.state["worse"] + 1

    def _keep(self, *, validated: bool) -> None:
        """A checkpoint, the log, a sample; the best model in the run's own folder."""
        best = self.state["worse"] == 0 if validated else self.state["best"] is None
        model = self._whole_model()
        moments = moments_of(self.model, self.optimizer, wanted=self.team.leads)
        if model is not None:
            # The checkpoint last: whoever goes on from one makes again what came after it.
            self.log.write()
            if best:
                save_model(model, self.folder)
            path = self.folder / CHECKPOINTS
            write_checkpoint(path, model, moments, self.state, self.settings.keep)
            self._sample(model)
        self.team.wait()

    def _whole_model(self) -> "Transformer | None":
        """The model, all of it, in the process that leads; None in the others."""
        if self.team.shards:
            return whole_model(self.model, wanted=self.team.leads)
        return self.model if self.team.leads else None

    def _watch(self, *, last: bool = False) -> float:
        """Look at the heads, where that was asked for and it is time; the seconds that it took."""
        began = time.perf_counter()
        due = self.watcher is not None and (last or self.state["step"] in self.watcher.steps)
        if self.team.shards and self.team.any(due):
            model = self._whole_model()
            if self.watcher is not None and model is not None:
                self.watcher.model = model
        if self.watcher is not None:
            self.watcher.look(self.state["step"], last=last)
        return time.perf_counter() - began

    def _sample(self, model: "Transformer") -> None:
        """What the model writes now, after a few tokens of the corpus."""
        tokenizer = model.tokenizer
        if tokenizer is None:
            return
        prompt = tokenizer.decode(self.training[: min(PROMPT, self._length - 1)].tolist())
        if not prompt:
            return
        text = prompt + generate(model, prompt, max_tokens=SAMPLE, seed=self.settings.seed)
        with (self.folder / "samples.txt").open("a", encoding="utf-8", errors="replace") as file:
            file.write(f"── step {self.state['step']} ──\n{text}\n\n")
        self.told.sample(text)

    def _patience_is_over(self) -> bool:
        patience = self.settings.patience
        return patience is not None and self.state["worse"] >= patience
