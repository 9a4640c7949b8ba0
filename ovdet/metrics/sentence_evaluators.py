"""The bridge from mmengine's evaluation to the metrics of sentences: grounding, retrieval, questions, pairs, captions.

Truth comes from the batch (`ovdet.data.batches`, `vqa`, `nlvr`, `karpathy`), answers from the model. Each evaluator
keeps one result a sample of the data set, since mmengine counts them, and leaves a `report` that says what was
measured on what.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric

from ovdet.errors import InputError
from ovdet.files import write_whole
from ovdet.metrics.captions import caption_scores, check_scorer
from ovdet.metrics.grounding import best_box_of_heat, grounding_accuracy, picked_right
from ovdet.metrics.retrieval import rerank, retrieval_recall
from ovdet.metrics.vqa import vqa_accuracy

_FACTS = ("dataset", "sentences", "pictures", "questions", "split_sha256", "candidates_sha256")


class _Evaluator(BaseMetric):
    """What they share: the report."""

    def __init__(self, prefix: str | None = None, collect_device: str = "cpu") -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.report: dict[str, Any] = {}
        """After an evaluation: what was measured on what."""

    def _say(self, metric: str, evaluator: str = "ovdet.metrics", **more: Any) -> None:
        meta: Mapping[str, Any] = self.dataset_meta or {}
        facts = {key: meta[key] for key in _FACTS if key in meta}
        self.report = {"evaluator": evaluator, "protocol": {**facts, "metric": metric, **more}}


class GroundingMetric(_Evaluator):
    """Accuracy at IoU 0.5 of one box a sentence, over all and by tag, by the two kinds of IoU.

    The model's answer to a sentence is a dict: "box_xyxy" (4,) in pixels of the original picture, or None or missing
    for "not there"; or, for weakly supervised models, "heat" (H, W), by which the best of the picture's detector boxes
    ("things_xyxy") is chosen. Where all things of a picture are known, "picked" tells how often the box overlaps the
    right thing most.

    Args:
        heat_exponent: of the area of a box, by which the heat in it is divided.
        prefix: of the numbers' names: "grounding/testA_inclusive".
    """

    default_prefix = "grounding"

    def __init__(self, heat_exponent: float = 0.5, prefix: str | None = None, collect_device: str = "cpu") -> None:
        super().__init__(prefix, collect_device)
        self.heat_exponent = heat_exponent

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep boxes of one batch, picture by picture."""
        index = data_batch["image_index"].tolist()
        if len(data_samples) != len(index):
            raise InputError(f"the model gave {len(data_samples)} answers to {len(index)} sentences")
        pictures: list[list[dict[str, Any]]] = [[] for _ in range(len(data_batch["images"]))]
        for place, answer, truth, tags in zip(
            index, data_samples, data_batch["boxes_xyxy"].tolist(), data_batch["tags"], strict=True
        ):
            things = data_batch["things_xyxy"][place].numpy() if "things_xyxy" in data_batch else None
            box, weak = self._box(answer, things), "heat" in answer
            known = None if things is None or weak else picked_right(np.nan_to_num(box), truth, things)
            row = {"box": np.asarray(box).tolist(), "truth": truth, "tags": tuple(tags), "picked": known, "weak": weak}
            pictures[place].append(row)
        self.results += pictures

    def _box(self, answer: Mapping[str, Any], things: np.ndarray | None) -> np.ndarray:
        if "heat" in answer:
            if things is None or not len(things):
                return np.full(4, np.nan)
            return things[best_box_of_heat(answer["heat"], things, self.heat_exponent)[0]]
        box = answer.get("box_xyxy")
        return np.full(4, np.nan) if box is None else np.asarray(torch.as_tensor(box).float().cpu())

    def compute_metrics(self, results: list[list[dict[str, Any]]]) -> dict[str, float]:
        """Numbers in percent."""
        rows = [row for picture in results for row in picture]
        numbers = grounding_accuracy([row["box"] for row in rows], [row["truth"] for row in rows],
                                     [row["tags"] for row in rows])  # fmt: skip
        known = [row["picked"] for row in rows if row["picked"] is not None]
        if known:
            numbers["all_picked"] = 100 * sum(known) / len(known)
        weak = any(row["weak"] for row in rows)
        supervision = "weak: heat maps over detector boxes" if weak else "boxes"
        self._say(
            "accuracy at IoU >= 0.5, percent of sentences; inclusive: whole pixels, borders included, as RefCOCO's "
            "official code counts; plain: areas",
            supervision=supervision,
            **({"heat_exponent": self.heat_exponent} if weak else {}),
        )
        return numbers


class RetrievalMetric(_Evaluator):
    """Recall of texts of pictures and pictures of texts, in one stage or in two.

    The model's answer to a picture is a dict: "image_vector" (D,) and "text_vectors" (n, D), of unit length, for the
    picture and its own texts; their cosines are the first stage. In the second the best of each ranking are ordered by
    the matching head; the answer then also holds "tokens" and "text_states", which `score_pairs` takes.

    Args:
        keep: candidates of the second stage (published: 256 on COCO, 128 on Flickr30k); 0 is the first stage alone.
        prefix: of the numbers' names: "retrieval/TR@1"; those of the first stage beside a second begin with "first_".

    Attributes:
        score_pairs: of the model (`ovdet.xvlm.task_training.RetrievalTask`); `SecondStageHook` puts it here.
    """

    default_prefix = "retrieval"
    score_pairs: Callable[[Sequence[Any], Sequence[Any], Sequence[tuple[int, int]]], Any] | None = None

    def __init__(self, keep: int = 0, prefix: str | None = None, collect_device: str = "cpu") -> None:
        super().__init__(prefix, collect_device)
        self.keep = keep

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep vectors, and for the second stage what is matched."""
        for one in data_samples:
            vectors = one["image_vector"].float().cpu().numpy(), one["text_vectors"].float().cpu().numpy()
            self.results.append((*vectors, one["tokens"], one["text_states"]) if self.keep else vectors)

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Recalls in percent."""
        images = np.stack([row[0] for row in results])  # (I, D)
        texts = np.concatenate([row[1] for row in results])  # (T, D)
        owner = [place for place, row in enumerate(results) for _ in row[1]]
        similarity = images @ texts.T
        numbers = retrieval_recall(similarity, owner)
        if not self.keep:
            self._say("recall at 1, 5 and 10, percent; first stage (joint space) alone", texts=len(texts))
            return numbers
        stage = f"two stages, the {self.keep} nearest of the joint space ordered by the matching head"
        self._say(f"recall at 1, 5 and 10, percent; {stage}", texts=len(texts))
        forward, backward = self._second_stage(similarity, results)
        numbers = {f"first_{name}": value for name, value in numbers.items()}
        return numbers | retrieval_recall(forward, owner, backward=backward)

    def _second_stage(self, similarity: np.ndarray, results: list[Any]) -> tuple[np.ndarray, np.ndarray]:
        """Scores (I, T) for texts of pictures and (T, I) for pictures of texts."""
        score = self.score_pairs
        if score is None:
            raise InputError("two stages need the model; add dict(type=SecondStageHook) to custom_hooks of the config")
        pictures, texts = [row[2] for row in results], [states for row in results for states in row[3]]

        def texts_of(picture: int, some: np.ndarray) -> Any:
            return score([pictures[picture]], [texts[i] for i in some], [(0, place) for place in range(len(some))])

        def pictures_of(text: int, some: np.ndarray) -> Any:
            return score([pictures[i] for i in some], [texts[text]], [(place, 0) for place in range(len(some))])

        return rerank(similarity, self.keep, texts_of), rerank(similarity.T, self.keep, pictures_of)


class QuestionMetric(_Evaluator):
    """VQA's accuracy; where answers are not public, a file for the evaluation server.

    The model's answer to a question is a dict with "answer".

    Args:
        out: path of `[{"question_id", "answer"}, ...]`, as the server takes it.
        prefix: of the numbers' names: "vqa/all".
    """

    default_prefix = "vqa"

    def __init__(self, out: str | Path | None = None, prefix: str | None = None, collect_device: str = "cpu") -> None:
        super().__init__(prefix, collect_device)
        self.out = out

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep answers."""
        rows = zip(data_batch["question_ids"].tolist(), data_batch["references"], data_batch["answer_types"],
                   data_samples, strict=True)  # fmt: skip
        self.results += [(number, list(known), kind, one["answer"]) for number, known, kind, one in rows]

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Numbers in percent; only the number of answers where none can be judged."""
        if self.out is not None:
            rows = [{"question_id": number, "answer": said} for number, _, _, said in results]
            write_answers(self.out, rows)
        judged = [row for row in results if row[1]]
        self._say("VQA accuracy, percent: mean over leave-one-out sets of min(1, equal answers / 3)")
        numbers = {"answered": float(len(results))}
        if judged:
            _, known, kinds, said = zip(*judged, strict=True)
            numbers |= vqa_accuracy(said, known, kinds)
        return numbers


class PairMetric(_Evaluator):
    """NLVR2's accuracy: is the sentence true of the pair? The model's answer is a dict with "label", 1 for true."""

    default_prefix = "nlvr"

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep labels."""
        self.results += [
            int(one["label"]) == truth for truth, one in zip(data_batch["label"].tolist(), data_samples, strict=True)
        ]

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Share in percent."""
        self._say("accuracy, percent of sentences")
        return {"accuracy": 100 * sum(results) / len(results)}


class CaptionMetric(_Evaluator):
    """Caption scores; the model's answer to a picture is a dict with "caption".

    Args:
        tokenizer: see `ovdet.metrics.captions.caption_scores`.
        out: path of `[{"image_id", "caption"}, ...]`, as COCO's tools take it.
        prefix: of the numbers' names: "caption/CIDEr".

    Raises:
        InputError: what scores is not installed, the library or "ptb"'s Java; said before the work, not after it.
    """

    default_prefix = "caption"

    def __init__(
        self,
        tokenizer: str = "auto",
        out: str | Path | None = None,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(prefix, collect_device)
        self.tokenizer, self.out = tokenizer, out
        check_scorer(tokenizer)

    def process(self, data_batch: Any, data_samples: Sequence[dict[str, Any]]) -> None:
        """Keep captions."""
        rows = zip(data_batch["image_ids"].tolist(), data_batch["references"], data_samples, strict=True)
        self.results += [(number, list(known), one["caption"]) for number, known, one in rows]

    def compute_metrics(self, results: list[Any]) -> dict[str, float]:
        """Numbers times 100."""
        if self.out is not None:
            write_answers(self.out, [{"image_id": number, "caption": said} for number, _, said in results])
        scores = caption_scores(
            {number: known for number, known, _ in results},
            {number: said for number, _, said in results},
            self.tokenizer,  # type: ignore[arg-type]
        )
        self._say("caption scores times 100", scores.evaluator, tokenizer=scores.tokenizer, note=scores.note)
        return scores.numbers


def write_answers(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write answers as the list that evaluation servers and COCO's tools take.

    Raises:
        InputError: the file cannot be written.
    """
    write_whole(Path(path), json.dumps(list(rows), ensure_ascii=False).encode())
