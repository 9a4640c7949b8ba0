"""X-VLM's other answers: words to a question, yes or no to a sentence of two pictures, a caption.

All of them read whole pictures; their blocks are those of text.py.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ovdet.xvlm.images import EncodedImages, ImageEncoder
from ovdet.xvlm.text import CrossEncoder, PairCrossEncoder, TextEmbedding, TextEncoder, WordHead


def next_word_losses(logits: Tensor, ids: Tensor, ignored: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each word given those before it.

    Args:
        logits: (K, L, V) at each place, of the word that comes next.
        ids: (K, L).
        ignored: (K, L) bool, true for words that are not to be learned.
        smoothing: share of the target that is spread over all V words; the right word keeps 1 - smoothing, as in the
            official code, where torch would add its part of the spread share.

    Returns:
        (K, L - 1), 0 where the word is ignored.
    """
    log = logits[:, :-1].float().log_softmax(-1)
    right = -log.gather(2, ids[:, 1:, None])[..., 0]
    if smoothing:
        spread = smoothing / log.shape[2]
        right = (1 - smoothing - spread) * right - spread * log.sum(2)
    return right.masked_fill(ignored[:, 1:], 0.0)


class RankedAnswers(NamedTuple):
    """The likeliest answers to K questions, best first.

    Attributes:
        index: (K, k) into the list of answers.
        probability: (K, k), summing to 1 over the k.
    """

    index: Tensor
    probability: Tensor


class AnswerModel(nn.Module):
    """Questions of a picture: the sentence encoder reads the question, a decoder says the answer (VQA).

    Args:
        image_encoder: pictures to tokens.
        text_encoder: questions to states.
        fusion: states and tokens to states.
        answer_embedding: words of the answer to vectors.
        answer_layers: causal; look at the states of the question.
        word_head: states to words.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        fusion: CrossEncoder,
        answer_embedding: TextEmbedding,
        answer_layers: CrossEncoder,
        word_head: WordHead,
    ) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder, self.fusion = image_encoder, text_encoder, fusion
        self.answer_embedding, self.answer_layers, self.word_head = answer_embedding, answer_layers, word_head
        self.recipe: dict[str, Any] = {}

    def read(self, images: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Pictures (B, 3, S, S) and questions (B, L) -> states of the questions (B, L, D)."""
        encoded: EncodedImages = self.image_encoder(images)
        states: Tensor = self.fusion(self.text_encoder(ids, mask), mask, encoded.tokens)
        return states

    def answer_logits(self, ids: Tensor, mask: Tensor, states: Tensor, state_mask: Tensor) -> Tensor:
        """Logits of the words of answers.

        Args:
            ids: (A, L) answers, an equal number for each question in turn.
            mask: (A, L).
            states: (K, L', D) of the questions.
            state_mask: (K, L').

        Returns:
            (A, L, V), at each place of the word that comes next.
        """
        x = self.answer_layers(self.answer_embedding(ids), mask, states, state_mask)
        return self.word_head(x, self.answer_embedding.tokens.weight)

    def loss(
        self,
        images: Tensor,
        questions: tuple[Tensor, Tensor],
        answers: tuple[Tensor, Tensor],
        question_index: Tensor,
        weights: Tensor,
    ) -> dict[str, Tensor]:
        """Sum over the words of each answer, weighted, divided by the number of pictures.

        Args:
            images: (B, 3, S, S), normalised.
            questions: ids and mask (B, L).
            answers: ids and mask (A, L).
            question_index: (A,) which question an answer is to.
            weights: (A,) share of the people who gave the answer.
        """
        states = self.read(images, *questions)
        logits = self.answer_logits(*answers, states[question_index], questions[1][question_index])
        losses = next_word_losses(logits, answers[0], ~answers[1]).sum(1)
        return {"loss_answer": (weights * losses).sum() / len(images)}

    @torch.no_grad()
    def rank(
        self, images: Tensor, questions: tuple[Tensor, Tensor], answers: tuple[Tensor, Tensor], k: int = 128
    ) -> RankedAnswers:
        """Rank a fixed list of answers: the k with the likeliest first word, by all their words.

        The first word counts twice, as in the official code.

        Args:
            images: (B, 3, S, S), normalised.
            questions: ids and mask (B, L).
            answers: ids and mask (A, L), [CLS] first.
            k: answers looked at in full; at most A.
        """
        states = self.read(images, *questions)
        ids, mask = answers
        k = min(k, len(ids))
        start = ids[:1, :1].expand(len(images), 1)
        first = self.answer_logits(start, torch.ones_like(start, dtype=torch.bool), states, questions[1])[:, 0]
        likely, chosen = first.float().softmax(1)[:, ids[:, 1]].topk(k, dim=1)  # (B, k)
        rows = chosen.flatten()
        logits = self.answer_logits(ids[rows], mask[rows], states, questions[1])
        losses = next_word_losses(logits, ids[rows], ~mask[rows]).sum(1).view(-1, k)
        probability, order = (likely.log() - losses).softmax(1).topk(k, dim=1)
        return RankedAnswers(chosen.gather(1, order), probability)


class PairModel(nn.Module):
    """A sentence of two pictures (NLVR2), or which of two pictures it is of.

    Args:
        image_encoder: pictures to tokens.
        text_encoder: sentences to states.
        fusion: looks at the two pictures by turns.
        head: (N, D) -> (N, classes): false and true, or first, second and neither.
        image_projection: of the pre-training for this task, to draw pairs that look alike; else None.
    """

    def __init__(
        self,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        fusion: PairCrossEncoder,
        head: nn.Module,
        image_projection: nn.Linear | None = None,
    ) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder, self.fusion = image_encoder, text_encoder, fusion
        self.head, self.image_projection = head, image_projection
        self.recipe: dict[str, Any] = {}

    def logits(self, first: Tensor, second: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Tokens of two times K pictures (K, 1 + T, W) and sentences (K, L) -> (K, classes)."""
        fused = self.fusion(self.text_encoder(ids, mask), mask, (first, second))
        logits: Tensor = self.head(fused[:, 0])
        return logits

    def forward(self, first: Tensor, second: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Two times K pictures (K, 3, S, S), normalised, and sentences (K, L) -> (K, classes)."""
        tokens = self.image_encoder(torch.cat([first, second])).tokens
        return self.logits(tokens[: len(first)], tokens[len(first) :], ids, mask)

    def loss(self, first: Tensor, second: Tensor, ids: Tensor, mask: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Cross-entropy with label (K,)."""
        return {"loss_pair": F.cross_entropy(self(first, second, ids, mask).float(), label)}


class CaptionModel(nn.Module):
    """A caption word by word; all layers see earlier words only.

    Args:
        image_encoder: pictures to tokens.
        text_encoder: words to states.
        fusion: causal; states and tokens to states.
        word_head: states to words.
    """

    def __init__(
        self, image_encoder: ImageEncoder, text_encoder: TextEncoder, fusion: CrossEncoder, word_head: WordHead
    ) -> None:
        super().__init__()
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        self.fusion, self.word_head = fusion, word_head
        self.recipe: dict[str, Any] = {}

    def word_logits(self, ids: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        """Captions (K, L), an equal number for each picture in turn, and tokens (B, 1 + T, W) -> (K, L, V)."""
        states = self.fusion(self.text_encoder(ids, mask, causal=True), mask, tokens)
        logits: Tensor = self.word_head(states, self.text_encoder.embedding.tokens.weight)
        return logits

    def loss(
        self, images: Tensor, ids: Tensor, mask: Tensor, prompt_length: int = 0, smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """Mean over words.

        Args:
            images: (B, 3, S, S), normalised.
            ids: (B, L) captions with [SEP] behind.
            mask: (B, L).
            prompt_length: tokens in front that are given and not learned, [CLS] counted in.
            smoothing: 0.1 in the fine-tuning for captions.
        """
        ignored = ~mask
        ignored[:, :prompt_length] = True
        logits = self.word_logits(ids, mask, self.image_encoder(images).tokens)
        losses = next_word_losses(logits, ids, ignored, smoothing)
        return {"loss_caption": losses.sum() / (~ignored[:, 1:]).sum().clamp_min(1)}

    @torch.no_grad()
    def generate(
        self, images: Tensor, prompt: Tensor, end: int, *, beams: int = 3, shortest: int = 5, longest: int = 20
    ) -> list[list[int]]:
        """Write one caption for each picture by beam search, the best by log probability over its length.

        The rules are those of transformers 4.12, whose search the official code calls: of the 2 * `beams` likeliest
        next words, an end counts only among the first `beams`; the `beams` best ended captions are kept; the search
        stops when the worst of them is at least as good as the best next word. Where it runs to `longest` instead,
        captions that have not ended count as well.

        Args:
            images: (B, 3, S, S), normalised.
            prompt: (P,) ids that every caption begins with, [CLS] first.
            end: id of the word that ends a caption, [SEP].
            beams: captions kept in the search.
            shortest: fewest tokens of a caption, the prompt counted in.
            longest: most tokens, likewise.

        Returns:
            B lists of ids without the end.
        """
        tokens = self.image_encoder(images).tokens
        return [self._search(one[None], prompt, end, beams, shortest, longest) for one in tokens]

    @torch.no_grad()
    def write_likeliest(self, tokens: Tensor, prompt: Tensor, end: int, longest: int = 20) -> list[list[int]]:
        """Write one caption for each picture, at each place the likeliest word: see `sample`."""
        return self._write(tokens, prompt.expand(len(tokens), -1), end, longest, lambda log: log.argmax(1))

    @torch.no_grad()
    def sample(self, tokens: Tensor, prompt: Tensor, end: int, count: int, longest: int = 20) -> list[list[int]]:
        """Draw captions, each word by its probability.

        Args:
            tokens: (B, 1 + T, W) of pictures.
            prompt: (P,) ids that every caption begins with, [CLS] first.
            end: id of the word that ends a caption, [SEP].
            count: captions of each picture.
            longest: most tokens of a caption, the prompt counted in.

        Returns:
            B * count lists of ids, those of a picture in turn; the end is kept, where one was written.
        """
        rows = prompt.expand(count * len(tokens), -1)
        return self._write(tokens, rows, end, longest, lambda log: torch.multinomial(log.exp(), 1)[:, 0])

    def _write(
        self, tokens: Tensor, rows: Tensor, end: int, longest: int, choose: Callable[[Tensor], Tensor]
    ) -> list[list[int]]:
        """Go on with rows (K, P) word by word, chosen by (K, V) log probabilities, until all of them have ended."""
        given = rows.shape[1]
        going = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        while rows.shape[1] < longest and going.any():
            logits = self.word_logits(rows, torch.ones_like(rows, dtype=torch.bool), tokens)[:, -1]
            words = choose(logits.float().log_softmax(1)).where(going, end)
            rows = torch.cat([rows, words[:, None]], dim=1)
            going = going & (words != end)
        return [row[: given + row[given:].index(end) + 1] if end in row[given:] else row for row in rows.tolist()]

    def mean_log_probability(self, ids: Tensor, mask: Tensor, tokens: Tensor, given: int) -> Tensor:
        """Mean log probability (K,) of the words behind the first `given` of captions; see `word_logits`."""
        ignored = ~mask
        ignored[:, :given] = True
        losses = next_word_losses(self.word_logits(ids, mask, tokens), ids, ignored)
        return -losses.sum(1) / (~ignored).sum(1)

    def _search(self, tokens: Tensor, prompt: Tensor, end: int, beams: int, shortest: int, longest: int) -> list[int]:
        """Beam search for one picture, see `generate`."""
        rows, scores = prompt[None], torch.zeros(1, device=prompt.device)
        ended: list[tuple[float, list[int]]] = []  # the best ones, best first
        while (length := rows.shape[1]) < longest:
            log = self.word_logits(rows, torch.ones_like(rows, dtype=torch.bool), tokens)[:, -1].float().log_softmax(1)
            if length < shortest:
                log[:, end] = -torch.inf
            total = (scores[:, None] + log).flatten()
            best, place = total.topk(min(2 * beams, len(total)))
            parents, words = place // log.shape[1], place % log.shape[1]
            going = words != end
            for rank in torch.nonzero(~going[:beams]).flatten().tolist():
                ended.append((float(best[rank]) / length, rows[parents[rank]].tolist()))
            ended = sorted(ended, key=itemgetter(0), reverse=True)[:beams]
            # the best next word may itself be an end, and is measured by the length before it, as published
            if len(ended) == beams and ended[-1][0] >= float(best[0]) / length:
                return ended[0][1]
            rows = torch.cat([rows[parents[going]], words[going, None]], dim=1)[:beams]
            scores = best[going][:beams]
        ended += [(score / rows.shape[1], row) for score, row in zip(scores.tolist(), rows.tolist(), strict=True)]
        return max(ended, key=itemgetter(0))[1]
