"""One run of `ovdet ground`: sentences are read once, and asked of each picture and frame."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np

from ovdet.cli.job import Item, Job
from ovdet.cli.sentences import Asked
from ovdet.grounder import Grounder
from ovdet.media import Source
from ovdet.results import Detections, Grounding


@dataclass(frozen=True, eq=False)
class Grounded(Detections):
    """All that the sentences mean in a picture, as detections whose classes are sentences.

    Attributes:
        groundings: the same, sentence by sentence, absent ones too.
    """

    groundings: tuple[Grounding, ...] = ()


class GroundJob(Job):
    """A job whose classes are all sentences of the run.

    Args:
        grounder: that answers.
        asked: who is asked what.
        sources: what to look at; each is asked something.
        options: of the command line.
        stdout: for lines of JSON, or None.

    Raises:
        InputError: a sentence has no word, or none that the model knows.
        CapabilityError: the model cannot do what the options ask for.
    """

    def __init__(
        self,
        grounder: Grounder,
        asked: Asked,
        sources: Sequence[Source],
        options: argparse.Namespace,
        stdout: TextIO | None,
    ) -> None:
        super().__init__(lambda images: [], asked.sentences, sources, options, stdout=stdout)
        self.grounder, self.asked = grounder, asked
        self._labels = {text: place for place, text in enumerate(self.names)}
        grounder.desk.require("box" if options.candidates is None else "match")
        every = dict.fromkeys(asked.of(source) for source in sources)
        self._sentences = {sentences: grounder.read(sentences) for sentences in every}
        if options.candidates is not None:
            _ = grounder.detector  # loaded now, so that a wrong one is told before the first picture

    def look(self, items: Sequence[Item]) -> list[Detections]:
        """What the sentences mean in each of some pictures or frames."""
        return [self._ground(item) for item in items]

    def record(self, result: Detections) -> dict[str, Any]:
        """What is told of a picture as JSON: all sentences, absent ones too."""
        assert isinstance(result, Grounded), "made by `look`"
        told = [answer.to_dict() for answer in result.groundings]
        kept = ("expression", "absent", "confidence", "boxes")
        return {
            "source": result.source,
            "size_hw": list(result.size_hw),
            "model": result.model,
            "groundings": [{key: each[key] for key in kept} for each in told],
        }

    def _ground(self, item: Item) -> Grounded:
        answers = self.grounder.ground(
            item.image,
            self._sentences[self.asked.of(item.source)],
            threshold=self.options.threshold,
            candidates=self.options.candidates,
        )
        every = [answer.to_detections() for answer in answers]
        scores = np.concatenate([each.scores for each in every])
        best_first = np.argsort(-scores, kind="stable")
        return Grounded(
            np.concatenate([each.boxes_xyxy for each in every])[best_first],
            scores[best_first],
            np.repeat([self._labels[answer.expression] for answer in answers], [len(each) for each in every])[
                best_first
            ],
            tuple(self.names),
            answers[0].size_hw,
            model=self.grounder.name,
            groundings=tuple(answers),
        )
