"""The numbers of a ViLD detector that are not sizes of its layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ovdet.errors import InputError

Variant = Literal["text", "image", "vild", "ensemble", "supervised"]


@dataclass(frozen=True)
class ViLDConfig:
    """Losses, temperatures and test settings (arXiv:2104.13921, sections 3.2 to 3.4).

    Attributes:
        variant: "text" learns from class labels only; "image" takes its classes from distillation only; "vild"
            does both with one head; "ensemble" does each with a head of its own and fuses the two at test time;
            "supervised" is the closed-set baseline: learned rows for the base names of training, no text.
        embed_dim: width D of the text embeddings and of the teacher's.
        temperature: divides the cosines in training.
        test_temperature: divides them at test time (0.01 in the official code, 0.007 in DetPro).
        distill_weight: of the L1 distance to the teacher, summed over D and averaged over regions. 0.5 here is
            256 on an L1 that is averaged over D = 512 too.
        max_distill_rois: best-scored proposals of a picture that are distilled; the others are left out.
        teacher_boxes: of the RPN's own, embedded on the fly if a picture brings no proposals.
        crop_scales: of the crops that a teacher on the fly reads.
        square_crops: crop squares instead of warping boxes, see `CropEncoder`.
        half_teacher: let the teacher on the fly compute in the training's mixed precision instead of float32.
        closed_classes: names of the training data, base and novel, where the variant is "supervised"; else 0.
        max_mask_regions: of a picture that the mask head learns from; the objects' own boxes come first.
        box_beta: where the box loss turns from quadratic to linear; 0 is plain L1.
        base_text_exponent: share of the text head in the fused score of a class seen in training.
        novel_text_exponent: the same for a class that was not.
        free_text_exponent: the same where nobody says which classes were seen (DetPro's transfer setting).
        score_thr: fused scores are small: 0.05, mmdet's default, would lose most of LVIS.
        nms_iou: per class.
        max_per_img: detections kept.
        mask_threshold: probability above which a pixel belongs to the object.
    """

    variant: Variant = "ensemble"
    embed_dim: int = 512
    temperature: float = 0.01
    test_temperature: float = 0.01
    distill_weight: float = 0.5
    max_distill_rois: int = 300
    teacher_boxes: int = 100
    crop_scales: tuple[float, ...] = (1.0, 1.5)
    square_crops: bool = False
    half_teacher: bool = False
    closed_classes: int = 0
    max_mask_regions: int | None = None
    box_beta: float = 1.0
    base_text_exponent: float = 2 / 3
    novel_text_exponent: float = 1 / 3
    free_text_exponent: float = 0.6
    score_thr: float = 1e-4
    nms_iou: float = 0.5
    max_per_img: int = 300
    mask_threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise InputError(f"variant must be one of {', '.join(get_args(Variant))}, got {self.variant!r}")
        if (self.variant == "supervised") != (self.closed_classes > 0):
            raise InputError(
                f"closed_classes is the number of names for variant 'supervised' and 0 for all others, got "
                f"{self.closed_classes} for {self.variant!r}"
            )
        for name in ("embed_dim", "temperature", "test_temperature", "max_distill_rois", "max_per_img"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("distill_weight", "box_beta", "score_thr"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("base_text_exponent", "novel_text_exponent", "free_text_exponent", "nms_iou", "mask_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1], got {getattr(self, name)}")

    @property
    def distills(self) -> bool:
        """Whether training needs the teacher's embeddings of proposals."""
        return self.variant not in ("text", "supervised")

    @property
    def learns_classes(self) -> bool:
        """Whether training needs class labels; without them no background vector is learned."""
        return self.variant != "image"
