"""Trainings of X-VLM's other answers as modules with `loss(**batch)` and `predict(**batch)`; see tasks.py.

Batches are those of `ovdet.data.vqa`, `ovdet.data.nlvr` and `ovdet.data.batches`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ovdet.errors import InputError
from ovdet.xvlm.relevance import relevance_maps, spread_over_picture
from ovdet.xvlm.tasks import AnswerModel, CaptionModel, PairModel
from ovdet.xvlm.text import SharedTokens
from ovdet.xvlm.tokens import SentenceTokens, pad_rows
from ovdet.xvlm.training import XVLMTraining
from ovdet.xvlm.weights import facts_of, pack_facts


class _Task(nn.Module):
    """What they share: pictures and texts made ready."""

    def __init__(self, model: AnswerModel | PairModel | CaptionModel, tokens: SentenceTokens) -> None:
        super().__init__()
        self.model, self.tokens = model, tokens

    def get_extra_state(self) -> Tensor:
        """What a checkpoint of this training says of the model, so that another training can start from it."""
        return pack_facts(facts_of(self.model, self.tokens))

    def set_extra_state(self, state: Tensor) -> None:
        """Nothing to restore: the model is built already."""

    def prepare(self, images: Tensor) -> Tensor:
        """Pictures as they come, on the model's device and normalised."""
        encoder = self.model.image_encoder
        images = images.to(encoder.mean.device)
        return encoder.normalise(images.float() / 255 if images.dtype == torch.uint8 else images)

    def split(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Ids and mask (K, L) with [CLS] in front and nothing behind."""
        ids, mask = self.tokens(texts)
        device = self.model.image_encoder.mean.device
        return ids.to(device), mask.to(device)

    def split_with_end(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The same of texts that are cleaned or must not be, with [SEP] behind, which counts among the tokens."""
        wordpiece = self.tokens.wordpiece
        ids, mask = pad_rows([wordpiece.ids(text, self.tokens.max_tokens) for text in texts], wordpiece.pad)
        device = self.model.image_encoder.mean.device
        return ids.to(device), mask.to(device)


class RetrievalTask(XVLMTraining):
    """Contrastive and matching losses; answers are vectors of the joint space, the first stage of retrieval.

    Attributes:
        keeps_states: whether answers also hold what `score_pairs` takes, for the second stage.
    """

    keeps_states = False

    @torch.no_grad()
    def predict(self, images: Tensor, texts: Sequence[str], image_index: Tensor, **batch: Any) -> list[dict[str, Any]]:
        """For each picture "image_vector" (D,) and "text_vectors" (n, D) of its own texts, of unit length.

        With `keeps_states` also "tokens" (1 + T, W) and "text_states", n of (L, D), in half precision on the CPU.
        """
        model, space = self.model, self.model.space
        assert space is not None, "checked when built"
        index = image_index.to(model.image_encoder.mean.device)
        ids, mask = (each.to(index.device) for each in self.tokens(texts))
        tokens, states = model.encode_images(self.prepare(images)).tokens, model.encode_text(ids, mask)
        pictures, said = space.of_images(tokens[:, 0]), space.of_texts(states[:, 0])
        found = [{"image_vector": one, "text_vectors": said[index == place]} for place, one in enumerate(pictures)]
        if self.keeps_states:
            for place, one in enumerate(found):
                own = torch.nonzero(index == place).flatten().tolist()
                one["tokens"] = tokens[place].half().cpu()
                one["text_states"] = [states[row, mask[row]].half().cpu() for row in own]
        return found

    @torch.no_grad()
    def score_pairs(
        self, tokens: Sequence[Tensor], states: Sequence[Tensor], pairs: Sequence[tuple[int, int]]
    ) -> Tensor:
        """The second stage: logits (P,) of the matching head, as published.

        Args:
            tokens: of pictures, as `predict` keeps them.
            states: of texts, likewise.
            pairs: P of a place in `tokens` and one in `states`.
        """
        device, dtype = self._device(), next(self.model.parameters()).dtype
        index, texts = (torch.tensor(places, device=device) for places in zip(*pairs, strict=True))
        seen = SharedTokens(torch.stack(list(tokens)).to(device, dtype), index)
        mask = pad_sequence([torch.ones(len(each), dtype=torch.bool) for each in states], batch_first=True).to(device)
        padded = pad_sequence(list(states), batch_first=True).to(device, dtype)
        return self.model.match_logits(self.model.first(padded[texts], mask[texts], seen))[:, 1].cpu()


class WeakGroundingTask(XVLMTraining):
    """Contrastive and matching losses; answers are heat maps, by which a detector's boxes are ranked.

    Args:
        layer: of the cross-modal layers, from 0, whose attention is looked at; see `relevance_maps`.
        training: arguments of `XVLMTraining`.
    """

    def __init__(self, *training: Any, layer: int = 3, **more: Any) -> None:
        super().__init__(*training, **more)
        self.layer = layer

    def predict(
        self, images: Tensor, texts: Sequence[str], image_index: Tensor, size_hw: Tensor, **batch: Any
    ) -> list[dict[str, Any]]:
        """For each text "heat" (H, W) over its original picture."""
        index = image_index.to(self.model.image_encoder.mean.device)
        ids, mask = (each.to(index.device) for each in self.tokens(texts))
        with torch.no_grad():
            tokens = self.model.encode_images(self.prepare(images)).tokens
        heat = relevance_maps(self.model, ids, mask, tokens[index], self.layer)
        sizes = [tuple(torch.as_tensor(size_hw)[place].tolist()) for place in image_index.tolist()]
        spread = [spread_over_picture(one[None], size)[0] for one, size in zip(heat, sizes, strict=True)]
        return [{"heat": one.float().cpu().numpy()} for one in spread]


class QuestionTask(_Task):
    """Answers to questions of pictures (VQA).

    Args:
        model: with a decoder of answers.
        tokens: splits questions and answers.
        answers: the list that answers are chosen from (published: 3,128 of them); only `predict` needs it.
        k: answers looked at in full.
    """

    def __init__(self, model: AnswerModel, tokens: SentenceTokens, answers: Sequence[str] = (), k: int = 128) -> None:
        super().__init__(model, tokens)
        self.answers, self.k = list(answers), k

    def loss(
        self, images: Tensor, questions: Sequence[str], answers: Sequence[str], weights: Tensor, answer_index: Tensor
    ) -> dict[str, Tensor]:
        """Loss of a batch of `ovdet.data.vqa.collate_questions`."""
        device = self.model.image_encoder.mean.device
        said = self.split_with_end(answers)
        return self.model.loss(
            self.prepare(images), self.split(questions), said, answer_index.to(device), weights.to(device)
        )

    @torch.no_grad()
    def predict(self, images: Tensor, questions: Sequence[str], **batch: Any) -> list[dict[str, Any]]:
        """The likeliest answer to each question: dicts with "answer" and "score"."""
        if not self.answers:
            raise InputError("answers are chosen from a list; give `answers` (the official answer_list.json)")
        k = min(self.k, len(self.answers))
        ranked = self.model.rank(self.prepare(images), self.split(questions), self.split_with_end(self.answers), k)
        best, sure = ranked.index[:, 0].tolist(), ranked.probability[:, 0].tolist()
        return [{"answer": self.answers[place], "score": score} for place, score in zip(best, sure, strict=True)]


class PairTask(_Task):
    """Is a sentence true of two pictures (NLVR2)? Or, in the stage before: which of two pictures is it of?

    Args:
        model: with a head of two answers, or of three for the stage before.
        tokens: splits sentences.
    """

    def __init__(self, model: PairModel, tokens: SentenceTokens) -> None:
        super().__init__(model, tokens)
        if model.image_projection is not None:
            # It draws pairs and learns nothing; distributed training would wait for its gradient.
            model.image_projection.requires_grad_(False)

    def loss(
        self,
        images: Tensor | None = None,
        texts: Sequence[str] = (),
        first: Tensor | None = None,
        second: Tensor | None = None,
        label: Tensor | None = None,
        **batch: Any,
    ) -> dict[str, Tensor]:
        """Loss of a batch of `ovdet.data.nlvr.collate_pairs`, or of captions (B, 3, S, S) for the stage before."""
        ids, mask = self.split(texts)
        if first is not None and second is not None and label is not None:
            return self.model.loss(self.prepare(first), self.prepare(second), ids, mask, label.to(ids.device))
        if images is None or self.model.image_projection is None:
            raise InputError("pictures with captions train the stage before NLVR2 alone (task 'nlvr-pretrain')")
        return self._assignment(self.prepare(images), ids, mask)

    def _assignment(self, images: Tensor, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Each caption with its picture and one that looks alike, in either order, or with two others."""
        tokens = self.model.image_encoder(images).tokens  # (B, 1 + T, W)
        count = len(images)
        if count < 3:
            raise InputError(f"the stage before NLVR2 needs batches of at least 3 pictures, got {count}")
        alike = F.normalize(self.model.image_projection(tokens[:, 0].detach()), dim=1)  # type: ignore[misc]
        similar = (alike @ alike.T / 0.07).detach().float().softmax(1) + 1e-9
        others = torch.multinomial(similar.fill_diagonal_(0), 2)  # (B, 2)
        own = torch.arange(count, device=ids.device)
        label = torch.randint(3, (count,), device=ids.device)  # it is the first, the second, neither
        first = torch.where(label == 0, own, others[:, 0])
        second = torch.where(label == 1, own, others[:, 1])
        logits = self.model.logits(tokens[first], tokens[second], ids, mask)
        return {"loss_assignment": F.cross_entropy(logits.float(), label)}

    @torch.no_grad()
    def predict(self, first: Tensor, second: Tensor, texts: Sequence[str], **batch: Any) -> list[dict[str, Any]]:
        """Dicts with "label", 1 for true, and "score"."""
        chance = self.model(self.prepare(first), self.prepare(second), *self.split(texts)).float().softmax(1)
        return [{"label": int(row.argmax()), "score": float(row.max())} for row in chance]


class CaptionTask(_Task):
    """Captions of pictures.

    Args:
        model: a captioner.
        tokens: splits captions.
        prompt: that captions begin with; it is given, not learned.
        smoothing: of the targets.
        beams: of the search.
        shortest: fewest tokens of a caption, the prompt counted in.
        longest: most tokens.
    """

    def __init__(
        self,
        model: CaptionModel,
        tokens: SentenceTokens,
        prompt: str = "",
        smoothing: float = 0.0,
        beams: int = 3,
        shortest: int = 5,
        longest: int = 20,
    ) -> None:
        super().__init__(model, tokens)
        self.prompt, self.smoothing = prompt, smoothing
        self.beams, self.shortest, self.longest = beams, shortest, longest
        start = tokens.wordpiece.id_of("[CLS]")
        self.prompt_ids = tokens.ids(prompt) if prompt.strip() else [start]

    def loss(self, images: Tensor, texts: Sequence[str], **batch: Any) -> dict[str, Tensor]:
        """Loss of a batch of one caption a picture, the prompt in front (`CaptionTraining` puts it there)."""
        ids, mask = self.split_with_end(texts)
        given = len(self.prompt_ids) if self.prompt else 0
        return self.model.loss(self.prepare(images), ids, mask, given, self.smoothing)

    @torch.no_grad()
    def predict(self, images: Tensor, **batch: Any) -> list[dict[str, Any]]:
        """Dicts with "caption", without the prompt."""
        prompt = torch.tensor(self.prompt_ids, device=self.model.image_encoder.mean.device)
        end = self.tokens.wordpiece.id_of("[SEP]")
        found = self.model.generate(
            self.prepare(images), prompt, end, beams=self.beams, shortest=self.shortest, longest=self.longest
        )
        return [{"caption": self._words(row[len(self.prompt_ids) :])} for row in found]

    def _words(self, ids: Sequence[int]) -> str:
        pieces = [self.tokens.vocabulary[place] for place in ids]
        return " ".join(pieces).replace(" ##", "")


Reward = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""Captions of one picture and what people said of it -> how good each caption is."""


class SelfCriticalTask(CaptionTask):
    """Captions drawn by the model itself and praised as far as they beat its likeliest one (SCST, arXiv:1612.00563).

    Args:
        model: a captioner that is trained on captions already.
        tokens: splits captions.
        samples: captions drawn of each picture.
        captions: arguments of `CaptionTask`.

    Attributes:
        reward: to be set before training; `ovdet.engine.sentences.RewardHook` does.
    """

    def __init__(self, model: CaptionModel, tokens: SentenceTokens, samples: int = 5, **captions: Any) -> None:
        super().__init__(model, tokens, **captions)
        self.samples = samples
        self.reward: Reward | None = None

    def loss(self, images: Tensor, references: Sequence[Sequence[str]], **batch: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Minus the mean of log probability times advantage, with "reward" and "baseline", their means, beside.

        The likeliest captions are written without dropout, drawn ones with it, as published.

        Args:
            images: (B, 3, S, S).
            references: B lists of captions, cleaned.
            batch: the rest of it.

        Raises:
            InputError: there is no reward.
        """
        if self.reward is None:
            raise InputError("this training needs a reward; add dict(type=RewardHook, ...) to custom_hooks")
        pictures = self.prepare(images)
        prompt = torch.tensor(self.prompt_ids, device=pictures.device)
        end = self.tokens.wordpiece.id_of("[SEP]")
        likeliest = self._likeliest(pictures, prompt, end)
        tokens = self.model.image_encoder(pictures).tokens
        drawn = self.model.sample(tokens, prompt, end, self.samples, self.longest)
        rewards, baseline = self._judge(drawn, likeliest, references)
        ids, mask = (each.to(pictures.device) for each in pad_rows(drawn, self.tokens.wordpiece.pad))
        log = self.model.mean_log_probability(ids, mask, tokens, len(self.prompt_ids))
        advantage = (rewards - baseline[:, None]).flatten().to(log)
        return {"loss_praise": -(log * advantage).mean(), "reward": rewards.mean(), "baseline": baseline.mean()}

    @torch.no_grad()
    def _likeliest(self, pictures: Tensor, prompt: Tensor, end: int) -> list[list[int]]:
        was_training = self.model.training
        self.model.eval()
        found = self.model.write_likeliest(self.model.image_encoder(pictures).tokens, prompt, end, self.longest)
        self.model.train(was_training)
        return found

    def _judge(
        self, drawn: Sequence[list[int]], likeliest: Sequence[list[int]], references: Sequence[Sequence[str]]
    ) -> tuple[Tensor, Tensor]:
        """Rewards (B, samples) of what was drawn, and (B,) of the likeliest."""
        assert self.reward is not None, "checked before"
        rows = []
        for place, (best, known) in enumerate(zip(likeliest, references, strict=True)):
            own = drawn[place * self.samples : (place + 1) * self.samples]
            rows.append(list(self.reward([self._said(row) for row in (*own, best)], known)))
        rewards = torch.tensor(rows, dtype=torch.float32)
        return rewards[:, :-1], rewards[:, -1]

    def _said(self, row: Sequence[int]) -> str:
        """Words of a caption, without prompt and end."""
        end = self.tokens.wordpiece.id_of("[SEP]")
        return self._words([word for word in row[len(self.prompt_ids) :] if word != end])
