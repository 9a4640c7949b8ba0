"""Make, merge and check teacher stores: a teacher's embeddings of the proposals of a whole data set.

python tools/distill/teacher_store.py make --out STORE --annotations FILE --images DIR --teacher NAME --rpn FILE.pth
python tools/distill/teacher_store.py merge --out STORE MACHINE1/STORE MACHINE2/STORE
python tools/distill/teacher_store.py check STORE

`make` says first what the store will take (and no more than that with --dry-run). It may be killed at any time: the
same command goes on after the last finished block. See docs/teacher_store.md.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import torch

from ovdet.data.coco import OpenVocabularyDataset
from ovdet.data.splits import annotated_split, lvis_split, ov_coco_split
from ovdet.data.teacher_store.facts import StoreFacts, TeacherFacts, sha256_of
from ovdet.data.teacher_store.folder import StoreBuilder, finish, merge, missing_blocks
from ovdet.data.teacher_store.making import DatasetRows, Plan, estimate, make, refuse_small_disk
from ovdet.data.teacher_store.reader import TeacherStore
from ovdet.data.teacher_store.sources import BoxesOfAnnotations, BoxesOfFile
from ovdet.errors import InputError, OvdetError
from ovdet.vild.extract import BoxesOfRPN, RegionTeacher
from ovdet.vlm.zoo import create_vlm

SPLITS = {"annotated": annotated_split, "ov_coco": ov_coco_split, "lvis": lvis_split}


def main(argv: list[str] | None = None) -> int:
    """Run one verb: 0, 2 with one sentence after a mistake of the caller, 130 where it was interrupted."""
    args = _arguments().parse_args(argv)
    try:
        args.run(args)
    except OvdetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on after the last finished block", file=sys.stderr)
        return 130
    return 0


def run_make(args: argparse.Namespace) -> None:
    """Estimate, extract this machine's share, and write the index if all blocks are there."""
    plan = _plan(args)
    builder = plan.builder
    if builder.pending(plan.shard):
        expected = estimate(plan)
        print(expected, file=sys.stderr)
        if args.dry_run:
            return
        refuse_small_disk(expected)
        make(plan)
    elif args.dry_run:
        print("nothing is left to do here", file=sys.stderr)
        return
    missing = missing_blocks(builder.folder)
    if missing:
        print(
            f"{builder.count - len(missing)} of {builder.count} blocks are in {builder.folder}; the store is finished "
            "when those of the other machines are there too, or merged with `merge`",
            file=sys.stderr,
        )
        return
    finish(builder.folder)
    _describe(TeacherStore(builder.folder))


def run_merge(args: argparse.Namespace) -> None:
    """Join the folders of several machines."""
    merge(args.out, args.parts)
    _describe(TeacherStore(args.out))


def run_check(args: argparse.Namespace) -> None:
    """Read everything, compare checksums, and say what the store is."""
    store = TeacherStore(args.store)
    store.verify()
    _describe(store)


def _plan(args: argparse.Namespace) -> Plan:
    """Put the arguments together; opens everything that can be wrong before anything long begins."""
    device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"--device {device}: torch sees no CUDA device here; `ovdet doctor` says more")
    precision = torch.float32
    if args.amp:
        precision = torch.float16 if device.startswith("cuda") else torch.bfloat16
    for field in ("limit", "block", "crops"):
        if getattr(args, field) < 1:
            raise InputError(f"--{field} must be at least 1, got {getattr(args, field)}")
    if not args.annotations.is_file():
        raise InputError(f"there is no annotation file {args.annotations}")
    rows = DatasetRows(
        OpenVocabularyDataset(
            str(args.annotations),
            data_prefix=dict(img=str(args.images)),
            split=SPLITS[args.split],
            base_only=not args.all,
            test_mode=True,
        )
    )
    propose = _boxes(args, device, precision)
    weights = args.weights if args.weights != "none" else None
    teacher = RegionTeacher(
        create_vlm(args.teacher, weights=weights, device=device), args.scales, args.crops, precision
    )
    facts = StoreFacts(
        TeacherFacts(**teacher.facts(args.teacher)),
        propose.facts,
        {"file": args.annotations.name, "sha256": sha256_of(args.annotations)},
    )
    builder = StoreBuilder(args.out, facts, rows.keys_of_pictures, args.block)
    return Plan(builder, rows, propose, teacher, args.shard, args.workers)


def _boxes(args: argparse.Namespace, device: str, precision: torch.dtype) -> Any:
    if args.proposals is not None:
        return BoxesOfFile(args.proposals, args.limit)
    if args.rpn is not None:
        digest = sha256_of(args.rpn)
        return BoxesOfRPN.load(args.rpn, limit=args.limit, device=device, precision=precision, sha256=digest)
    return BoxesOfAnnotations(f"{args.split}, {'all' if args.all else 'base only'}")


def _describe(store: TeacherStore) -> None:
    teacher = store.facts.teacher
    print(
        f"{store.folder}: {len(store):,} pictures, {store.rows:,} rows of {teacher.embed_dim} halves, "
        f"{store.nbytes / 1e6:,.1f} MB, by {teacher.name} ({teacher.fingerprint[:12]}); "
        f"boxes: {store.facts.proposals['kind']}; annotations: {store.facts.annotations['file']}",
        file=sys.stderr,
    )


def _shard(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"\d+/\d+", text):
        raise argparse.ArgumentTypeError(f"must be i/n, such as 1/4, got {text!r}")
    machine, machines = text.split("/")
    return int(machine), int(machines)


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    _add_make(verbs.add_parser("make", help="extract embeddings of a data set", allow_abbrev=False))
    joining = verbs.add_parser("merge", help="join what several machines made", allow_abbrev=False)
    joining.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the whole store")
    joining.add_argument("parts", type=Path, nargs="+", metavar="PART", help="folders of the machines")
    joining.set_defaults(run=run_merge)
    checking = verbs.add_parser("check", help="compare all checksums, and say what a store is", allow_abbrev=False)
    checking.add_argument("store", type=Path, metavar="DIR")
    checking.set_defaults(run=run_check)
    return parser


def _add_make(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write; an unfinished one is continued")
    add("--annotations", type=Path, required=True, metavar="FILE", help="COCO or LVIS annotation file")
    add("--images", type=Path, required=True, metavar="DIR", help="folder of its pictures")
    add("--split", choices=SPLITS, default="annotated", help="which classes are novel (default: as the file says)")
    add("--all", action="store_true", help="pictures without a base class too, and annotated boxes of novel ones")
    add("--teacher", required=True, metavar="NAME", help="model of `ovdet models`")
    add("--weights", default="default", metavar="FILE", help="of the teacher (default: its own; none: random)")
    boxes = parser.add_mutually_exclusive_group(required=True)
    boxes.add_argument("--proposals", type=Path, metavar="FILE.npz", help="boxes of a ProposalSource file")
    boxes.add_argument("--rpn", type=Path, metavar="FILE.pth", help="boxes of a trained detector's RPN (the paper)")
    boxes.add_argument("--annotated-boxes", action="store_true", help="the boxes of the annotations")
    add("--limit", type=int, default=300, metavar="N", help="boxes of a picture, best first (default: 300)")
    add("--scales", type=float, nargs="+", default=[1.0, 1.5], metavar="X", help="crops of a box (default: 1 and 1.5)")
    add("--shard", type=_shard, default=(1, 1), metavar="I/N", help="this machine's share, from 1/N to N/N")
    add("--block", type=int, default=100, metavar="N", help="pictures lost at most in a kill (default: 100)")
    add("--crops", type=int, default=64, metavar="N", help="crops encoded at once (default: 64)")
    add("--workers", type=int, default=0, metavar="N", help="processes that read pictures (default: none)")
    add("--device", metavar="NAME", help="such as cpu or cuda:1 (default: cuda where there is one)")
    add("--amp", action="store_true", help="float16 on a GPU, bfloat16 on CPUs")
    add("--dry-run", action="store_true", help="stop after the estimate of size and time; nothing is written")
    parser.set_defaults(run=run_make)


if __name__ == "__main__":
    sys.exit(main())
