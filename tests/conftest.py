"""What the tests of the front desk share: a small detector that really looks, photographs, and a way to run `ovdet`."""

from __future__ import annotations

import hashlib
import json
import signal
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from ovdet.errors import CapabilityError, InputError
from ovdet.results import Detections, Grounding
from ovdet.seggpt.config import SegGPTConfig
from ovdet.seggpt.model import ExampleTokens, SegGPTModel
from ovdet.seggpt.predict import SegGPTSegmenter
from ovdet.vlm.base import BackboneSpec, VLMBackbone
from ovdet.xvlm.predict import EncodedSentences

COLORS = {"red": (220, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 220), "yellow": (240, 220, 40)}


class BlobDetector:
    """Finds blobs of one colour; the names are the colours' own, or any text, which stands for a colour of its own.

    It keeps the promises of `ovdet.detector.Predictor` and writes down what it was asked, for the tests to read.
    """

    name = "blobs"

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []
        self.embedded: list[tuple[str, ...]] = []

    def embed(self, names: Sequence[str]) -> torch.Tensor:
        self.embedded.append(tuple(names))
        return torch.tensor([COLORS.get(name) or tuple(hashlib.sha256(name.encode()).digest()[:3]) for name in names])

    def predict(
        self,
        images: Sequence[np.ndarray],
        names: Sequence[str],
        class_embeddings: torch.Tensor,
        *,
        score_threshold: float | None = None,
        max_dets: int = 100,
        masks: bool = True,
    ) -> list[Detections]:
        self.batch_sizes.append(len(images))
        threshold = 0.3 if score_threshold is None else score_threshold
        return [self._look(image, names, class_embeddings.numpy(), threshold, max_dets, masks) for image in images]

    def embed_pictures(self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]) -> torch.Tensor:
        cut = [
            image[int(y1) : int(y2), int(x1) : int(x2)]
            for image, (x1, y1, x2, y2) in zip(images, boxes_xyxy, strict=True)
        ]
        return torch.tensor(np.array([part.reshape(-1, 3).mean(axis=0).astype(int) for part in cut]))

    def propose(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = self.predict([image], list(COLORS), self.embed(list(COLORS)), masks=False)[0]
        return found.boxes_xyxy, found.scores

    def _look(self, image, names, colors, threshold, max_dets, masks) -> Detections:
        found = []
        for label, color in enumerate(colors):
            near = np.abs(image.astype(int) - color).max(axis=2) < 60
            blobs, _ = ndimage.label(near)
            for index, (rows, columns) in enumerate(ndimage.find_objects(blobs), start=1):
                mask = blobs == index
                box = (columns.start, rows.start, columns.stop, rows.stop)
                score = float(mask[rows, columns].mean()) * min(1.0, mask.sum() / 100)
                if score >= threshold:
                    found.append((score, label, box, mask))
        found = sorted(found, key=lambda one: -one[0])[:max_dets]
        return Detections(
            [box for _, _, box, _ in found],
            [score for score, *_ in found],
            [label for _, label, *_ in found],
            tuple(names),
            image.shape[:2],
            None if not masks else np.array([mask for *_, mask in found]).reshape(-1, *image.shape[:2]),
            model=self.name,
        )


class BlobGrounder:
    """Grounds sentences that name a colour: a box around all of it, and candidates by their share of it.

    It keeps the promises of `ovdet.xvlm.predict.XVLMGrounder` and writes down what it was asked, for the tests to read.
    """

    name = "blobs"
    lacks = ""
    embed_dim = len(COLORS)

    def __init__(self) -> None:
        self.encoded = 0
        self.asked: list[tuple[str, ...]] = []
        self.facts = SimpleNamespace(task="pretrain", threshold=0.3)
        self.fingerprint = "of-blobs"

    def require(self, head: str) -> None:
        if head == self.lacks:
            raise CapabilityError(f"blobs has no {head} head")

    def encode(self, image: np.ndarray) -> SimpleNamespace:
        self.encoded += 1
        return SimpleNamespace(image=image, size_hw=image.shape[:2])

    def read(self, sentences: Sequence[str]) -> EncodedSentences:
        self.asked.append(tuple(sentences))
        for text in sentences:
            if not text.strip():
                raise InputError(f"the sentence {text!r} has no word")
        grey = (128, 128, 128)
        colours = [next((rgb for name, rgb in COLORS.items() if name in text), grey) for text in sentences]
        return EncodedSentences(tuple(sentences), torch.tensor(colours)[:, None], torch.ones(len(colours), 1).bool())

    def _shown(self, picture: SimpleNamespace, colours: torch.Tensor) -> list[np.ndarray]:
        """(H, W) bool of each colour; nothing is grey."""
        away = [np.abs(picture.image.astype(int) - colour).max(axis=2) for colour in colours.flatten(1).numpy()]
        return [
            each < (0 if np.ptp(rgb) == 0 else 60) for each, rgb in zip(away, colours.flatten(1).numpy(), strict=True)
        ]

    def ground(self, picture, sentences, *, threshold=None, candidates_xyxy=None, likelihood=None) -> list[Grounding]:
        read = sentences if isinstance(sentences, EncodedSentences) else self.read(sentences)
        least = self.facts.threshold if threshold is None else threshold
        answers = []
        for text, mask in zip(read.texts, self._shown(picture, read.states), strict=True):
            if candidates_xyxy is None:
                found = ndimage.find_objects(mask.astype(int))
                boxes = [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in found]
            else:
                boxes = [tuple(box) for box in np.asarray(candidates_xyxy).astype(int)]
            scores = [float(mask[y1:y2, x1:x2].mean()) for x1, y1, x2, y2 in boxes]
            order = sorted(range(len(boxes)), key=lambda place: -scores[place])
            kept = [place for place in order if scores[place] >= least]
            best = max(scores, default=0.0)
            answers.append(
                Grounding(
                    text, [boxes[i] for i in kept], [scores[i] for i in kept], picture.size_hw, best, model=self.name
                )
            )
        return answers

    def match(self, picture, sentences) -> torch.Tensor:
        read = sentences if isinstance(sentences, EncodedSentences) else self.read(sentences)
        return torch.tensor([min(1.0, 2 * float(mask.mean())) for mask in self._shown(picture, read.states)])

    def picture_vector(self, picture) -> torch.Tensor:
        every = torch.tensor(list(COLORS.values()))
        shares = torch.tensor([float(mask.mean()) + 1e-6 for mask in self._shown(picture, every)])
        return torch.nn.functional.normalize(shares, dim=0)

    def sentence_vectors(self, read) -> torch.Tensor:
        same = (read.states == torch.tensor(list(COLORS.values()))).all(2)  # (K, C)
        return torch.nn.functional.normalize(same + 1e-6, dim=1)


class ColourMatcher(nn.Module):
    """Stands for a SegGPT: paints each pixel as the most similar pixel of an example; the mean over examples."""

    normalise, to_colours = SegGPTModel.normalise, SegGPTModel.to_colours

    def __init__(self, side: int = 32) -> None:
        super().__init__()
        self.config = SegGPTConfig(
            canvas_hw=(2 * side, side), patch=8, width=8, depth=2, heads=1, merge_block=0, taps=(1,)
        )
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))
        self.mask_token, self.picture_token, self.painting_token = torch.zeros(3, 8)
        self.asked: list[tuple[str, int]] = []

    def see(self, pictures) -> None:
        return None

    def encode_examples(self, pictures, paintings, kind, seen=None) -> ExampleTokens:
        self.asked.append((kind.name, len(pictures)))
        return ExampleTokens(pictures, paintings, pictures[:1], kind)

    def paint(self, examples, targets, seen=None) -> torch.Tensor:
        found = []
        for picture, painting in zip(examples.pictures, examples.paintings, strict=True):
            away = torch.cdist(targets.flatten(2).transpose(1, 2), picture.flatten(1).T[None])  # (B, T, P)
            found.append(painting.flatten(1)[:, away.argmin(2)].transpose(0, 1).unflatten(2, targets.shape[2:]))
        return torch.stack(found).mean(0)


class RandomFeatures(VLMBackbone):
    """A fixed random projection of the 8x8 thumbnail; texts are seeds."""

    def __init__(self, width: int = 32) -> None:
        super().__init__(
            BackboneSpec("random-features", "contrastive", width, 32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "Apache-2.0")
        )
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(3 * 64, width, generator=generator))

    @property
    def fingerprint(self) -> str:
        return "random-features-0"

    def encode_image(self, images: Tensor) -> Tensor:
        thumbnails = F.adaptive_avg_pool2d(self.normalise(images), 8).flatten(1)
        return F.normalize(thumbnails @ self.weight, dim=1)

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        rows = [
            torch.randn(self.spec.embed_dim, generator=torch.Generator().manual_seed(zlib.crc32(text.encode())))
            for text in texts
        ]
        return F.normalize(torch.stack(rows), dim=1)

    def forward_dense(self, images: Tensor) -> Tensor:
        raise NotImplementedError


def paint(size_hw: tuple[int, int], *blobs: tuple[str, tuple[int, int, int, int]]) -> np.ndarray:
    """A grey picture with coloured rectangles (x1, y1, x2, y2)."""
    image = np.full((*size_hw, 3), 128, np.uint8)
    for color, (x1, y1, x2, y2) in blobs:
        image[y1:y2, x1:x2] = COLORS[color]
    return image


@dataclass
class Outcome:
    """What a run of the command line gave."""

    code: int
    out: str
    err: str
    blobs: BlobDetector
    grounder: BlobGrounder

    @property
    def records(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.startswith("error: ")]


@pytest.fixture(autouse=True, scope="session")
def _signals_arrive() -> Iterator[None]:
    """Let Ctrl-C and termination arrive also where the tests were started in a shell's background or by nohup.

    There they are ignored from birth, `ovdet` rightly keeps ignoring them, and a test that waits for one waits long.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if before[number] is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def blob_detector() -> BlobDetector:
    return BlobDetector()


@pytest.fixture
def blob_grounder() -> BlobGrounder:
    return BlobGrounder()


@pytest.fixture
def colour_desk() -> SegGPTSegmenter:
    """The desk of the examples' room, of which the network goes by colours alone."""
    return SegGPTSegmenter(ColourMatcher(), name="colours")


@pytest.fixture
def make_prompt(tmp_path: Path, colour_desk: SegGPTSegmenter) -> Callable[..., Path]:
    """Write a prompt tuned for `colour_desk`, of a picture and the numbers of its pixels' names."""
    from ovdet.seggpt.colours import class_colours, paint_labels
    from ovdet.seggpt.model import Kind
    from ovdet.seggpt.prompts import TunedPrompt, fingerprint
    from ovdet.seggpt.views import resize_picture

    def make(image: np.ndarray, labels: np.ndarray, names: Sequence[str], kind: Kind = Kind.SEMANTIC) -> Path:
        colours = class_colours(len(names))
        model = colour_desk.model
        halves = (
            model.normalise(
                torch.from_numpy(resize_picture(each, model.config.picture_hw).copy()).permute(2, 0, 1)[None]
            )[0]
            for each in (image, paint_labels(labels, colours))
        )
        path = tmp_path / "prompt.safetensors"
        TunedPrompt(*halves, tuple(names), colours, kind, fingerprint(model)).save(path)
        return path

    return make


@pytest.fixture
def tower() -> RandomFeatures:
    return RandomFeatures().eval()


@pytest.fixture(name="paint")
def _paint() -> Callable[..., np.ndarray]:
    return paint


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A PNG of 60 x 80 with a red and a blue blob."""
    path = tmp_path / "picture.png"
    Image.fromarray(paint((60, 80), ("red", (5, 10, 35, 40)), ("blue", (50, 20, 70, 50)))).save(path)
    return path


@pytest.fixture
def run_ovdet(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    blob_detector: BlobDetector,
    blob_grounder: BlobGrounder,
    colour_desk: SegGPTSegmenter,
) -> Callable[..., Outcome]:
    """Run `ovdet` in this process, in a folder of its own, with models that go by colours alone."""
    import ovdet.detector
    import ovdet.grounder
    import ovdet.segmenter
    from ovdet.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ovdet.detector, "load_predictor", lambda model, device: blob_detector)
    monkeypatch.setattr(ovdet.grounder, "load_grounder", lambda model, device, vocabulary: blob_grounder)
    monkeypatch.setattr(ovdet.segmenter, "load_segmenter", lambda model, device: colour_desk)

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err, blob_detector, blob_grounder)

    return run


SHAPES = ("disc", "ring", "square", "bar", "triangle", "star")
PAINTS = ((220, 30, 30), (40, 160, 50), (40, 70, 210), (240, 210, 40), (150, 60, 190), (120, 120, 120))


def draw_shape(shape: str, colour: tuple[int, int, int]) -> np.ndarray:
    """(200, 200, 4) uint8, straight alpha, smooth edges, margins all round."""
    big = np.zeros((800, 800), np.uint8)
    if shape in ("disc", "ring"):
        cv2.circle(big, (400, 400), 300, 255, -1 if shape == "disc" else 100)
    elif shape in ("square", "bar"):
        cv2.rectangle(big, (100, 100 if shape == "square" else 300), (700, 700 if shape == "square" else 480), 255, -1)
    else:
        count = 3 if shape == "triangle" else 10
        angles = np.arange(count) * 2 * np.pi / count - np.pi / 2
        reach = np.where(np.arange(count) % 2, 130, 330) if shape == "star" else 330
        corners = 400 + np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.reshape(reach, (-1, 1))
        cv2.fillPoly(big, [corners.astype(np.int32)], 255)
    alpha = cv2.resize(big, (200, 200), interpolation=cv2.INTER_AREA)
    return np.dstack([np.broadcast_to(np.uint8(colour), (200, 200, 3)), alpha])


@pytest.fixture(scope="session")
def write_pack(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Writes a sprite pack of six shapes by every artist, called as one likes, and gives its folder."""
    from ovdet.data.stickers import sprites
    from ovdet.data.stickers.curation import HELD_OUT_STYLES, TRAIN_STYLES

    def write(names: Sequence[str], lacking: dict[str, Sequence[str]] | None = None) -> Path:
        folder = tmp_path_factory.mktemp("pack")
        artist = sprites.ArtistRecord("none", "1", "sha512-none", "the tests", "https://example.org", "CC0-1.0", "")
        rows = {}
        for place, style in enumerate((*TRAIN_STYLES, *HELD_OUT_STYLES)):
            kept = [index for index, name in enumerate(names) if name not in (lacking or {}).get(style, ())]
            pictures = [
                sprites.tight(draw_shape(SHAPES[index], PAINTS[(place + index) % len(PAINTS)])) for index in kept
            ]
            sheet = sprites.SpriteSheet(
                style, artist, tuple(names[i] for i in kept), tuple(SHAPES[i] for i in kept), tuple(pictures)
            )
            rows[style] = sprites.write_sheet(folder, sheet)
        sprites.write_pack(folder, rows)
        return folder

    return write


@pytest.fixture(scope="session")
def real_names_pack(write_pack: Callable[..., Path]) -> Path:
    """A pack whose drawings are called by names of the committed vocabulary, three base and three novel."""
    from ovdet.data.stickers.vocabulary import load_vocabulary

    novel = load_vocabulary("48-17").novel
    base = [name for name in load_vocabulary("48-17").names if name not in novel]
    return write_pack([*base[:3], *sorted(novel)[:3]])
