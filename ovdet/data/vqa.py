"""VQAv2 (arXiv:1612.00837) with Visual Genome's questions beside it, and the lists of them that ALBEF and X-VLM use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset

from ovdet.data.augment import ALL_OPERATIONS, RandAugment
from ovdet.data.json_rows import check_count, digest_of, read_rows
from ovdet.data.records import read_picture
from ovdet.data.texts import clean_question
from ovdet.data.views import Augmentation, crop_anywhere, mirror, to_tensor, view_generator, whole_view
from ovdet.errors import InputError

QUESTIONS = {"train": 443757, "val": 214354, "test": 447793, "test-dev": 107394}
"""Of VQAv2's official splits."""
VISUAL_GENOME_WEIGHT = 0.5
"""Of the one answer of a question of Visual Genome, where VQA's ten answers share 1."""


@dataclass(frozen=True)
class Question:
    """One question about one picture.

    Attributes:
        text: as it was asked, not cleaned.
        file_name: of the picture, below the folder of its data set.
        question_id: of VQA; -1 for other data.
        answers: as they were given, not cleaned; ten for VQA, none for tests.
        kind: data set: "vqa" or "vg".
        question_type: such as "how many"; "" if unknown.
        answer_type: "yes/no", "number" or "other"; "" if unknown.
    """

    text: str
    file_name: str
    question_id: int
    answers: tuple[str, ...] = ()
    kind: str = "vqa"
    question_type: str = ""
    answer_type: str = ""

    def weighted_answers(self) -> dict[str, float]:
        """Different answers and how much each counts."""
        if self.kind == "vg":
            return dict.fromkeys(self.answers[:1], VISUAL_GENOME_WEIGHT)
        return {answer: count / len(self.answers) for answer, count in Counter(self.answers).items()}


def read_vqa(questions: str | Path, annotations: str | Path | None = None, *, verify: bool = True) -> list[Question]:
    """Read the official files of one split.

    Args:
        questions: `v2_OpenEnded_mscoco_*_questions.json`.
        annotations: `v2_mscoco_*_annotations.json`; None for tests.
        verify: refuse another number of questions than the split's, where the file's name tells the split.

    Raises:
        InputError: a file is missing or of another form, a question has no annotation, or the number is wrong.
    """
    asked = read_rows(questions, {"question": str, "image_id": int, "question_id": int}, key="questions")
    answered: dict[int, Mapping[str, Any]] = {}
    if annotations is not None:
        rows = read_rows(annotations, {"question_id": int, "answers": list}, key="annotations")
        answered = {row["question_id"]: row for row in rows}
    folder = _picture_folder(Path(questions).name)
    found = []
    for index, row in enumerate(asked):
        notes = answered.get(row["question_id"], {})
        if annotations is not None and not notes:
            raise InputError(f"{annotations} has nothing on question {row['question_id']} of {questions}, row {index}")
        found.append(
            Question(
                text=row["question"],
                file_name=f"{folder}/COCO_{folder}_{row['image_id']:012d}.jpg",
                question_id=row["question_id"],
                answers=tuple(one["answer"] for one in notes.get("answers", ())),
                question_type=notes.get("question_type", ""),
                answer_type=notes.get("answer_type", ""),
            )
        )
    split = next((name for name in ("test-dev", "test", "val", "train") if f"_{name}20" in Path(questions).name), None)
    if verify and split:
        check_count(str(questions), {f"questions of {split}": len(found)}, {f"questions of {split}": QUESTIONS[split]})
    return found


def _picture_folder(name: str) -> str:
    """COCO's folder of the pictures that a file of questions is about."""
    return next((year for year in ("train2014", "val2014", "test2015") if year in name), "test2015")


def read_question_lists(paths: Sequence[str | Path]) -> list[Question]:
    """Read lists of `{"question", "image", "answer": str or [str], "dataset", "question_id"}`; the last two may lack.

    Raises:
        InputError: a file is missing or of another form.
    """
    found = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for row in read_rows(path, {"question": str, "image": str}):
            answer = row.get("answer", ())
            answers = (answer,) if isinstance(answer, str) else tuple(answer)
            number, kind = int(row.get("question_id", -1)), row.get("dataset", "vqa")
            found.append(Question(row["question"], row["image"], number, answers, kind))
    return found


class QuestionTraining(Dataset):
    """One question with its different answers and their weights.

    A sample: "image" (3, S, S) uint8, "question", "answers" (list of str), "weights" (list of float). Where question
    or answers tell left from right, the picture is not mirrored, as published.

    Args:
        questions: with answers.
        roots: kind of a question ("vqa", "vg") -> folder of its pictures.
        side: of the square, in pixels.
        max_words: of a question.
        seed: of the views; with a `Draw` they depend on seed and draw alone.
        scale: least and largest share of the picture's area.
        augmentation: of the square.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        roots: Mapping[str, str | Path],
        side: int = 384,
        max_words: int = 30,
        seed: int = 0,
        *,
        scale: tuple[float, float] = (0.5, 1.0),
        augmentation: Augmentation | None = RandAugment(ALL_OPERATIONS),  # noqa: B008 (it has no state)
    ) -> None:
        missing = sorted({one.kind for one in questions} - set(roots))
        if missing or not questions:
            raise InputError(
                f"there is no folder of pictures for {missing[0]!r}" if missing else "no question is given"
            )
        silent = next((one for one in questions if not one.answers), None)
        if silent:
            raise InputError(f"question {silent.question_id} ({silent.text!r}) has no answer to learn from")
        self.questions, self.roots = list(questions), dict(roots)
        self.side, self.max_words, self.seed = side, max_words, seed
        self.scale, self.augmentation = scale, augmentation

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        one = self.questions[int(index)]
        rng = view_generator(self.seed, index)
        picture = read_picture(Path(self.roots[one.kind]) / one.file_name)
        weighted = one.weighted_answers()
        whole, _ = mirror(rng, whole_view(picture), [[one.text, *weighted]], "keep")
        view = crop_anywhere(rng, picture.size, self.scale)
        square = type(view)(view.crop_xyxy, whole.mirrored).picture(picture, self.side)
        return {
            "image": to_tensor(self.augmentation(rng, square) if self.augmentation else square),
            "question": clean_question(one.text, self.max_words),
            "answers": list(weighted),
            "weights": list(weighted.values()),
        }


class QuestionTest(Dataset):
    """One question: "image", "question" and "question_id", and "answers" where they are known.

    Args:
        questions: to be asked.
        picture_root: folder of the pictures.
        side: of the square, in pixels.
        max_words: of a question; published: 50, so that hardly any is cut.
        name: of the data set, for protocols.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        picture_root: str | Path,
        side: int = 384,
        max_words: int = 50,
        *,
        name: str = "questions",
    ) -> None:
        if not questions:
            raise InputError("there is no question to ask")
        self.questions, self.picture_root = list(questions), picture_root
        self.side, self.max_words = side, max_words
        content = [(one.question_id, one.text, one.file_name, one.answers) for one in self.questions]
        self.metainfo = {"dataset": name, "questions": len(self.questions), "split_sha256": digest_of(content)}

    def __len__(self) -> int:
        return len(self.questions)

    def __getitem__(self, index: int) -> dict[str, Any]:
        one = self.questions[int(index)]
        picture = read_picture(Path(self.picture_root) / one.file_name)
        return {
            "image": to_tensor(whole_view(picture).picture(picture, self.side)),
            "question": clean_question(one.text, self.max_words),
            "question_id": one.question_id,
            "answers": list(one.answers),
            "answer_type": one.answer_type,
            "question_type": one.question_type,
        }


def collate_questions(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch of B questions.

    Returns:
        images (B, 3, S, S) uint8 and questions (B strings). For training also answers (A strings), weights (A,)
        float32 and answer_index (A,) int64, the question that an answer belongs to. For tests also question_ids
        (B,) int64, references (B lists of answers), answer_types and question_types.
    """
    batch: dict[str, Any] = {
        "images": torch.stack([sample["image"] for sample in samples]),
        "questions": [sample["question"] for sample in samples],
    }
    if "weights" in samples[0]:
        counts = torch.tensor([len(sample["answers"]) for sample in samples])
        batch["answers"] = [answer for sample in samples for answer in sample["answers"]]
        batch["weights"] = torch.tensor([weight for sample in samples for weight in sample["weights"]])
        batch["answer_index"] = torch.arange(len(samples)).repeat_interleave(counts)
        return batch
    batch["question_ids"] = torch.tensor([sample["question_id"] for sample in samples])
    batch["references"] = [sample["answers"] for sample in samples]
    batch["answer_types"] = [sample["answer_type"] for sample in samples]
    batch["question_types"] = [sample["question_type"] for sample in samples]
    return batch


def question_lists_training(
    files: Sequence[str], roots: Mapping[str, str], seed: int = 0, **more: Any
) -> QuestionTraining:
    """`QuestionTraining` on lists: what a config names."""
    return QuestionTraining(read_question_lists(files), roots, seed=seed, **more)


def question_lists_test(files: Sequence[str], picture_root: str, **more: Any) -> QuestionTest:
    """`QuestionTest` on lists: what a config names."""
    return QuestionTest(read_question_lists(files), picture_root, name=", ".join(Path(f).stem for f in files), **more)


def vqa_test(questions: str, picture_root: str, annotations: str | None = None, **more: Any) -> QuestionTest:
    """`QuestionTest` on the official files of a split: what a config names."""
    verify = more.pop("verify", True)
    return QuestionTest(
        read_vqa(questions, annotations, verify=verify), picture_root, name=Path(questions).stem, **more
    )
