"""Pictures as classes: the vector of an example picture becomes a row that stands among the rows of names.

A contrastive backbone keeps pictures and texts apart to a degree that is its own. Where it keeps them far apart, a
picture's vector beside those of names would win or lose for that alone. So a row is made of what the picture says about
names that the model knows (as ConSE does, arXiv:1312.5650), with a share of its own vector where the backbone allows.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from ovdet.errors import CapabilityError
from ovdet.vlm.base import VLMBackbone

SPREAD = 2.0
"""Times the temperature of the space, at which a picture is spread over names."""


def class_rows(backbone: VLMBackbone, vectors: Tensor, known: Tensor | None = None) -> Tensor:
    """Turn vectors of pictures into rows of classes.

    Args:
        backbone: that made the vectors.
        vectors: (K, D) of pictures, unit length.
        known: (N, D) rows of names that the model knows, unit length; None or empty if there are none.

    Returns:
        (K, D) unit length, to be used like rows of names.

    Raises:
        CapabilityError: this backbone cannot without known names, and there are none.
    """
    own = getattr(backbone, "rows_of_pictures", None)
    if own is not None:
        rows: Tensor = own(vectors)
        return rows
    share = backbone.spec.picture_share
    if known is None or not len(known):
        if not share:
            raise CapabilityError(
                f"{backbone.spec.name} keeps pictures and names too far apart to mix them; give words, or take the "
                "model stickers, imagenet-words or a checkpoint that knows its training names"
            )
        return vectors
    known = known.to(vectors)
    likeness = vectors @ known.T / (SPREAD * backbone.spec.temperature)  # (K, N)
    said = normalize(likeness.softmax(dim=1) @ known, dim=1)  # (K, D)
    return normalize(share * vectors + (1 - share) * said, dim=1)
