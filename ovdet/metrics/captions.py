"""Caption scores of the COCO benchmark, by the kept library `pycocoevalcap`: BLEU, ROUGE-L, METEOR and CIDEr.

The library's tokenizer (Stanford's PTB) and METEOR run in Java. Without Java the captions are split by a plain rule,
METEOR is left out, and the numbers say so; BLEU, ROUGE-L and CIDEr themselves are Python.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from typing import Literal

from ovdet.errors import InputError

Captions = Mapping[int, Sequence[str]]

_LOG = logging.getLogger(__name__)
_PTB_DROPPED = frozenset(["''", "'", "``", "`", "-lrb-", "-rrb-", "-lcb-", "-rcb-", ".", "?", "!", ",", ":", "-", "--",
                          "...", ";"])  # fmt: skip
_PLAIN_TOKEN = re.compile(r"[a-z0-9]+(?:['’][a-z]+)*(?:-[a-z0-9]+)*|[^\sa-z0-9]", re.IGNORECASE)


@dataclass(frozen=True)
class CaptionScores:
    """Scores of a set of captions.

    Attributes:
        numbers: "BLEU-1" to "BLEU-4", "ROUGE-L", "CIDEr" and, with Java, "METEOR", times 100 as papers have them.
        tokenizer: "ptb" or "plain".
        note: what was left out and why, in one sentence; "" if nothing.
        evaluator: name and version of the library.
    """

    numbers: dict[str, float]
    tokenizer: str
    note: str
    evaluator: str


def caption_scores(
    references: Captions, captions: Mapping[int, str], tokenizer: Literal["auto", "ptb", "plain"] = "auto"
) -> CaptionScores:
    """Score one caption a picture against its references.

    Args:
        references: picture id -> what people said, not tokenized.
        captions: picture id -> what the model said; the same pictures.
        tokenizer: "ptb" needs Java, as METEOR does; "auto" takes it where there is Java. Published numbers are "ptb".

    Raises:
        InputError: pictures differ, one has no reference, the library is not installed, or "ptb" without Java.
    """
    if not references or set(references) != set(captions):
        odd = sorted(set(references) ^ set(captions))[:1]
        raise InputError(f"captions and references must be of the same pictures; {odd or 'none'} is on one side only")
    bare = next((key for key, said in references.items() if not said), None)
    if bare is not None:
        raise InputError(f"picture {bare} has no reference caption")
    java = check_scorer(tokenizer)
    chosen = "ptb" if java and tokenizer != "plain" else "plain"
    answers = {key: [said] for key, said in captions.items()}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        known, said = (_tokenize(one, chosen) for one in (references, answers))
        numbers = _scores(known, said, with_meteor=java)
    note = ""
    if not java:
        note = "Java is not found, so METEOR is left out and captions are split by a plain rule, not as published."
        _LOG.warning(note)
    return CaptionScores(numbers, chosen, note, f"pycocoevalcap {version('pycocoevalcap')}")


def find_java() -> bool:
    """Is there a Java that runs?"""
    if shutil.which("java") is None:
        return False
    try:
        return subprocess.run(["java", "-version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def plain_tokens(caption: str) -> str:
    """Lower-case words and numbers with spaces between; punctuation as PTB's list has it goes."""
    return " ".join(token for token in _PLAIN_TOKEN.findall(caption.lower()) if token not in _PTB_DROPPED)


def check_scorer(tokenizer: str = "auto") -> bool:
    """Find out whether captions can be scored here, before they are written: is there Java for it?

    Args:
        tokenizer: as of `caption_scores`.

    Raises:
        InputError: the library is not installed, or "ptb" without Java.
    """
    java = find_java()
    if tokenizer == "ptb" and not java:
        raise InputError(
            "the PTB tokenizer needs Java and `java` is not found; install it, or choose tokenizer='plain'"
        )
    if find_spec("pycocoevalcap") is None:
        raise InputError("caption scores need pycocoevalcap: pip install 'ovdet[captions]'")
    return java


def _tokenize(captions: Captions, how: str) -> dict[int, list[str]]:
    if how == "plain":
        return {key: [plain_tokens(text) for text in texts] for key, texts in captions.items()}
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    rows = {key: [{"caption": text.replace("\n", " ")} for text in texts] for key, texts in captions.items()}
    return PTBTokenizer().tokenize(rows)


def _scores(references: dict[int, list[str]], captions: dict[int, list[str]], *, with_meteor: bool) -> dict[str, float]:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge

    blue, _ = Bleu(4).compute_score(references, captions)
    numbers = {f"BLEU-{order}": 100 * float(value) for order, value in enumerate(blue, 1)}
    numbers["ROUGE-L"] = 100 * float(Rouge().compute_score(references, captions)[0])
    numbers["CIDEr"] = 100 * float(Cider().compute_score(references, captions)[0])
    if with_meteor:
        numbers["METEOR"] = 100 * float(Meteor().compute_score(references, captions)[0])
    return numbers
