"""Hooks: the vocabulary of each data set, repeatable iterations, checkpoints that describe themselves, pictures."""

from __future__ import annotations

import pkgutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.utils import set_random_seed
from PIL import Image, ImageOps
from torch import Tensor, nn

from ovdet.results import Detections


def bare_model(runner: Runner) -> nn.Module:
    """The model itself, out of its distributed wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


class VocabularyHook(Hook):
    """Gives the model the names of the data set at hand, as vectors; the network never sees a string.

    A data set's metainfo holds "classes" (K names) and "base_mask" (K flags). The checkpoint gets a note that tells
    how to build and ask the model again: `checkpoint["ovdet"]`, of plain types only.

    Args:
        text_tower: `dict(type=create_vlm, name=..., weights=...)`; its fields besides `type` go into the checkpoint.
        embed: `ovdet.vlm.prompts.class_embeddings`, or anything called as `embed(tower, names, templates=...)`;
            a dumped config has its dotted name.
        templates: name of the prompt templates.
        teacher: as `text_tower`: embeds proposals on the fly in training; not used where the data brings rows of a
            teacher store, which must then be this teacher's, or the text tower's if it is None.
        test_scale: long and short side in pixels that test pictures are fitted into; None where the config does not
            resize them.
    """

    def __init__(
        self,
        text_tower: Mapping[str, Any],
        embed: Callable[..., Tensor] | str,
        templates: str = "vild63",
        teacher: Mapping[str, Any] | None = None,
        test_scale: Sequence[int] | None = (1333, 800),
    ) -> None:
        self.tower_settings, self.templates = dict(text_tower), templates
        self.embed = pkgutil.resolve_name(embed) if isinstance(embed, str) else embed
        self.teacher_settings = None if teacher is None else dict(teacher)
        self.test_scale = [int(side) for side in test_scale or ()]
        self._tower: Any = None
        self._note: dict[str, Any] | None = None
        self._current: tuple[Any, Any] | None = None
        self._tables: dict[tuple[str, ...], Tensor] = {}

    @property
    def tower(self) -> Any:
        """The text tower, built when first asked for."""
        if self._tower is None:
            self._tower = build_from(self.tower_settings)
        return self._tower

    @property
    def tower_note(self) -> dict[str, Any]:
        """What the checkpoint and the protocol say of the tower: its settings and the hash of its weights."""
        if self._note is None:
            settings = {key: value for key, value in self.tower_settings.items() if key != "type"}
            self._note = {**settings, "fingerprint": getattr(self.tower, "fingerprint", None)}
        return dict(self._note)

    def before_train(self, runner: Runner) -> None:
        """Hand over the teacher, or see that stored rows are its own; and the names of the training data."""
        if not self._check_stored_rows(runner):
            self._set_teacher(runner)
        self._use(runner, runner.train_dataloader.dataset, "train")

    def before_val_epoch(self, runner: Runner) -> None:
        """Switch to the names of the validation data."""
        self._use(runner, runner.val_dataloader.dataset, "val")

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Switch back."""
        if runner._train_loop is not None and not isinstance(runner._train_loop, dict):
            self._use(runner, runner.train_dataloader.dataset, "train")

    def before_test_epoch(self, runner: Runner) -> None:
        """Switch to the names of the test data; hand over the teacher where it is needed at test time too."""
        if getattr(bare_model(runner), "needs_teacher", False):
            self._set_teacher(runner)
        self._use(runner, runner.test_dataloader.dataset, "test")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note how to build the model and embed names for it."""
        meta = runner.train_dataloader.dataset.metainfo
        checkpoint["ovdet"] = {
            "format": 1,
            "room": "vild",
            **bare_model(runner).recipe,
            "text_tower": self.tower_note,
            "templates": self.templates,
            "class_names": list(meta["classes"]),
            "base_mask": [bool(flag) for flag in meta["base_mask"]],
            "test_scale": self.test_scale,
            "config_name": Path(runner.cfg.filename or "").stem,
        }

    def _set_teacher(self, runner: Runner) -> None:
        if self.teacher_settings is not None:
            bare_model(runner).set_teacher(self._teacher().to(next(runner.model.parameters()).device))

    def _teacher(self) -> Any:
        same = self.teacher_settings in (None, self.tower_settings)
        return self.tower if same else build_from(self.teacher_settings)

    def _check_stored_rows(self, runner: Runner) -> bool:
        """Whether the training data brings rows of teacher stores; those of another teacher are refused."""
        sources = list(stored_rows(runner.train_dataloader.dataset))
        teacher = self._teacher() if sources else None
        for dataset, source in sources:
            source.check_teacher(teacher.fingerprint, teacher.spec.embed_dim, teacher.spec.name)
            doubt = source.doubt(dataset.metainfo["ann_file"])
            if doubt:
                runner.logger.warning(doubt)
            rows = f"{source.rows:,} stored rows of {len(source):,} pictures"
            runner.logger.info(f"distillation: {rows}, of {source.folder}")
        return bool(sources)

    def _use(self, runner: Runner, dataset: Any, phase: str) -> None:
        names, base_mask = tuple(dataset.metainfo["classes"]), tuple(dataset.metainfo["base_mask"])
        if self._current == (names, base_mask):
            return
        self._current = names, base_mask
        if names not in self._tables:
            self._tables[names] = self.embed(self.tower, names, templates=self.templates)
        bare_model(runner).set_class_embeddings(self._tables[names], torch.tensor(base_mask))
        some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        runner.logger.info(
            f"vocabulary of {phase}: {len(names)} names ({sum(base_mask)} base): {some}; "
            f"templates {self.templates}, text tower {self.tower_settings.get('name')}"
        )


class RepeatableHook(Hook):
    """Makes each iteration's randomness a function of seed, rank and iteration, so that a resumed run is the same run.

    Samples are seeded by the data set itself (`ovdet.data.sampling.Draw`); this is for what the model draws.
    """

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed Python, NumPy and torch."""
        parts = (runner.seed, runner.rank, runner.iter)
        set_random_seed(zlib.crc32(repr(parts).encode()))


class ShowHook(Hook):
    """Draws what was found on each test picture and writes it to a folder.

    Args:
        out: folder, made where it is missing.
        score: detections below it are not drawn.
    """

    def __init__(self, out: str | Path, score: float = 0.3) -> None:
        self.out, self.score = Path(out), score

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Draw one batch."""
        self.out.mkdir(parents=True, exist_ok=True)
        names = runner.test_dataloader.dataset.metainfo["classes"]
        for index, sample in enumerate(outputs or ()):
            image = _as_tested(sample, None if data_batch is None else data_batch["inputs"][index])
            found = as_detections(sample.pred_instances, names, image.shape[:2])
            drawn = found[found.scores >= self.score].draw(image)
            Image.fromarray(drawn).save(self.out / f"{sample.img_id}_{Path(sample.img_path).stem}.jpg")


def _as_tested(sample: Any, pixels: Tensor | None) -> np.ndarray:
    """The picture (H, W, 3) RGB of the boxes: the file's, or `pixels`, BGR, where it was drawn on the fly."""
    size_hw = tuple(sample.ori_shape[:2])
    if pixels is not None and tuple(pixels.shape[-2:]) == size_hw and not Path(sample.img_path).is_file():
        return np.ascontiguousarray(pixels.flip(0).permute(1, 2, 0).byte().cpu().numpy())
    return _as_annotated(sample.img_path, size_hw)


def _as_annotated(path: str, size_hw: tuple[int, int]) -> np.ndarray:
    """The picture (H, W, 3) RGB, turned by its EXIF tag unless that is not the size that was detected on."""
    with Image.open(path) as opened:
        upright = ImageOps.exif_transpose(opened)
        return np.asarray((upright if upright.size == size_hw[::-1] else opened).convert("RGB"))


def as_detections(found: Any, names: Sequence[str], size_hw: tuple[int, int]) -> Detections:
    """Turn mmdet's instances of one picture into `Detections`."""
    masks = found.masks.cpu().numpy().astype(bool) if "masks" in found else None
    boxes_xyxy = found.bboxes.float().cpu().numpy()
    scores = found.scores.float().clamp(0, 1).cpu().numpy()
    return Detections(boxes_xyxy, scores, found.labels.cpu().numpy(), tuple(names), size_hw, masks)


def stored_rows(dataset: Any) -> Iterator[tuple[Any, Any]]:
    """Data sets and the teacher stores that their pipelines read, inside of mmengine's wrappers too."""
    for inner in getattr(dataset, "datasets", None) or filter(None, [getattr(dataset, "dataset", None)]):
        yield from stored_rows(inner)
    for step in getattr(getattr(dataset, "pipeline", None), "transforms", ()):
        source = getattr(step, "source", None)
        if hasattr(source, "check_teacher"):
            yield dataset, source


def build_from(settings: Mapping[str, Any]) -> Any:
    """Call `type` with the other fields."""
    arguments = dict(settings)
    builder = arguments.pop("type")
    return (pkgutil.resolve_name(builder) if isinstance(builder, str) else builder)(**arguments)
