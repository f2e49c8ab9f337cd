"""State of a search: the live and the finished beams of all images, as tensors.

Shapes: image = independent searches run side by side, group = beams chosen together, beam = those of a group, step =
tokens generated so far. Log probabilities are natural logs. A *finished* beam has produced the end token. Beams are
chosen and ranked by their *value*: log probability and bonuses.
"""

import torch
from torch import Tensor

from showtell.core.errors import UserError
from showtell.generation.choices import Choice, Hypothesis


class Beams:
    """At most `choice.ends` beams of a group finish. Those that do are replaced where `choice.replaces`, else not."""

    def __init__(self, start: Tensor, end: int, choice: Choice, max_length: int):
        images, groups, ends, device = len(start), choice.groups, choice.ends, start.device
        self.end, self.choice, self.ends, self.max_length = end, choice, ends, max_length
        self.tokens = start.view(images, 1, 1, 1).repeat(1, groups, 1, 1)  # (image, group, beam, step), start included
        self.logprob = torch.zeros(images, groups, 1, device=device)  # (image, group, beam); -inf: an empty slot
        self.bonus = torch.zeros_like(self.logprob)  # (image, group, beam): of all tokens
        self.falling = True  # whether values only decrease: no bonus was given
        # (image, group, beam, step): log probability of each token
        self.trace = torch.empty(images, groups, 1, 0, device=device)
        self.vacant = torch.full((images, groups), ends, device=device)  # beams that may still finish
        # One slot more than can finish: values that are not kept are written there.
        self.finished_tokens = torch.zeros(images, groups, ends + 1, max_length, dtype=torch.long, device=device)
        self.finished_trace = torch.zeros(images, groups, ends + 1, max_length, device=device)
        self.finished_logprob = torch.full((images, groups, ends + 1), -torch.inf, device=device)
        self.finished_bonus = torch.zeros(images, groups, ends + 1, device=device)
        self.finished_length = torch.ones(images, groups, ends + 1, dtype=torch.long, device=device)
        self.rows = torch.arange(images, device=device)  # the image of each row
        self._retired: dict[int, tuple[Tensor, ...]] = {}

    def said(self) -> Tensor:
        """Tokens so far, start included: (image, beam of all groups, step)."""
        return self.tokens.flatten(1, 2)

    def extend(self, logprobs: Tensor, bonuses: Tensor | None = None) -> Tensor:
        """Append the chosen continuations; returns the beam that each continues, (image, beam of all groups).

        `logprobs` and `bonuses` (image, beam of all groups, word). `UserError` when log probabilities are NaN.
        """
        groups, beams, length = self.tokens.shape[1:]
        logprobs = logprobs.unflatten(1, (groups, beams))  # (image, group, beam, word)
        words = logprobs.shape[3]
        totals = values = (self.logprob.unsqueeze(3) + logprobs).flatten(2)  # (image, group, beam x word)
        if bonuses is not None:
            self.falling = False
            raised = (self.bonus.unsqueeze(3) + bonuses.unflatten(1, (groups, beams))).flatten(2)
            values = totals + raised
        place = self.choice(values, logprobs, self.vacant, self.said()[:, :, 1:])  # (image, group, beam)
        logprob, beam, word = totals.gather(2, place), place // words, place % words
        self.bonus = torch.zeros_like(logprob) if bonuses is None else raised.gather(2, place)
        if logprob.isnan().any():  # NaN is greater than any number, so that it is always chosen
            raise UserError(
                "the decoder's scores are not finite (NaN): its training diverged or its weights are damaged"
            )
        ended = word == self.end
        logprob = logprob.masked_fill(~self._kept(ended), -torch.inf)
        history = self.tokens.gather(2, beam.unsqueeze(3).expand(-1, -1, -1, length))
        self.tokens = torch.cat([history, word.unsqueeze(3)], dim=3)
        traces = self.trace.gather(2, beam.unsqueeze(3).expand(-1, -1, -1, length - 1))
        self.trace = torch.cat([traces, logprobs.flatten(2).gather(2, place).unsqueeze(3)], dim=3)
        self._finish(ended & (logprob > -torch.inf), logprob)
        self.logprob = logprob.masked_fill(ended, -torch.inf)
        if self.choice.replaces:
            beam = beam.gather(2, self._drop())
        first = torch.arange(groups, device=place.device).view(1, groups, 1) * beams  # index of each group's first beam
        return (first + beam).flatten(1)

    def _kept(self, ended: Tensor) -> Tensor:
        """Which of the chosen continuations stay, best first: bool (image, group, beam), as `ended`."""
        vacant = self.vacant.unsqueeze(2)
        if not self.choice.replaces:
            return torch.arange(ended.shape[2], device=ended.device) < vacant
        live_before = (~ended).cumsum(2) - (~ended).long()
        return (live_before < self.choice.width) & (~ended | (ended.cumsum(2) <= vacant))

    def _drop(self) -> Tensor:
        """Keep live beams alone, as many as `choice.width`; returns their places, (image, group, beam)."""
        live = (self.logprob > -torch.inf).int()
        places = live.sort(dim=2, descending=True, stable=True).indices[:, :, : self.choice.width]
        self.logprob, self.bonus = self.logprob.gather(2, places), self.bonus.gather(2, places)
        steps = places.unsqueeze(3)
        self.tokens = self.tokens.gather(2, steps.expand(-1, -1, -1, self.tokens.shape[3]))
        self.trace = self.trace.gather(2, steps.expand(-1, -1, -1, self.trace.shape[3]))
        return places

    def _finish(self, ended: Tensor, logprob: Tensor) -> None:
        """Move the beams where `ended` (image, group, beam) is True to the finished ones."""
        before = (self.ends - self.vacant).unsqueeze(2)
        place = torch.where(ended, before + ended.cumsum(2) - 1, self.ends)
        length = self.tokens.shape[3] - 1
        words = torch.nn.functional.pad(self.tokens[..., 1:], (0, self.max_length - length))
        self.finished_tokens.scatter_(2, place.unsqueeze(3).expand_as(words), words)
        trace = torch.nn.functional.pad(self.trace, (0, self.max_length - length))
        self.finished_trace.scatter_(2, place.unsqueeze(3).expand_as(trace), trace)
        self.finished_logprob.scatter_(2, place, logprob)
        self.finished_bonus.scatter_(2, place, self.bonus)
        self.finished_logprob[..., self.ends] = -torch.inf
        self.finished_length.scatter_(2, place, length)
        self.vacant = self.vacant - ended.sum(2)

    def done(self, penalty: float, n_best: int) -> Tensor:
        """Where no live beam can still enter the image's `n_best`: bool (image,).

        A beam's log probability only decreases, so its best possible score divides it by the greatest length. With
        bonuses that is not known, and all beams go on until they are finished.
        """
        dead = (self.vacant == 0) | (self.logprob.max(dim=2).values == -torch.inf)
        if not self.falling:
            return dead.all(dim=1)
        # Groups say the same, and repeats come last: how much of a group is among the best is known at its end.
        share = n_best if self.choice.groups == 1 or n_best == 1 else self.choice.ends
        best_possible_score = self.logprob.max(dim=2).values / self.max_length**penalty
        scores = self.finished_logprob / self.finished_length**penalty
        if share <= scores.shape[2]:
            dead = dead | (best_possible_score <= scores.topk(share, dim=2).values[..., -1])
        return dead.all(dim=1)

    def retire(self, done: Tensor, going: Tensor) -> None:
        """Store the images that are `done`, and continue with `going`, the others."""
        for row in done.nonzero().squeeze(1).tolist():
            self._retired[int(self.rows[row])] = self._row(row)
        finished = [f"finished_{name}" for name in ("tokens", "trace", "logprob", "bonus", "length")]
        for name in ("tokens", "trace", "logprob", "bonus", "vacant", *finished, "rows"):
            setattr(self, name, getattr(self, name)[going])
        self.choice = self.choice.keep_images(going)

    def _row(self, row: int) -> tuple[Tensor, ...]:
        finished = self.finished_tokens, self.finished_trace, self.finished_logprob, self.finished_bonus
        living = self.tokens[..., 1:], self.trace, self.logprob, self.bonus
        return tuple(x[row] for x in (*finished, self.finished_length, *living))

    def best(self, penalty: float, n_best: int) -> list[list[Hypothesis]]:
        """The `n_best` best hypotheses of each image, best first; `UserError` for an image that has none."""
        rows = self._retired | {int(image): self._row(row) for row, image in enumerate(self.rows)}
        found = [self.choice.merged(_by_group(rows[image], penalty))[:n_best] for image in sorted(rows)]
        if not all(found):
            raise UserError("the search finds nothing that may be said: the decoder gives every word probability 0")
        return found


def _by_group(row: tuple[Tensor, ...], penalty: float) -> list[list[Hypothesis]]:
    return [_hypotheses(penalty, *(x.tolist() for x in group)) for group in zip(*row, strict=True)]


def _hypotheses(
    penalty: float, finished_tokens: list[list[int]], finished_trace: list[list[float]], finished_logprob: list[float],
    finished_bonus: list[float], finished_length: list[int], tokens: list[list[int]], trace: list[list[float]],
    logprob: list[float], bonus: list[float],
) -> list[Hypothesis]:  # fmt: skip
    """The hypotheses of one group: finished ones by decreasing score, then unfinished ones."""
    finished = [
        Hypothesis(words[: length - 1], own, (own + more) / length**penalty, True, each[:length])
        for words, each, own, more, length in zip(
            finished_tokens, finished_trace, finished_logprob, finished_bonus, finished_length, strict=True
        )
        if own > -torch.inf
    ]
    unfinished = [
        Hypothesis(words, own, (own + more) / max(len(words), 1) ** penalty, False, each)
        for words, each, own, more in zip(tokens, trace, logprob, bonus, strict=True)
        if own > -torch.inf
    ]
    return [hypothesis for group in (finished, unfinished) for hypothesis in sorted(group, key=lambda h: -h.score)]
