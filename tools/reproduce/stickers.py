"""The sticker world's results from nothing: drawings, teacher, trunks, detectors, figures, table.

python tools/reproduce/stickers.py --root work_dirs/stickers

Every stage is one command, printed before it runs. What is finished is not done again; what was stopped, however it
was stopped, goes on where it was: the same command again is the way to resume. Two copies may run side by side, for two
cores: a stage that one of them has begun is left to it. `--list` shows the stages and which are done. The longest that
were run, the teacher and the shipped detector, took about 55 and 50 minutes of one core beside other work.
`--teacher ovdet/vlm/contrastive/sticker_clip.safetensors` takes a teacher that is there instead of training its three
stages.
"""

from __future__ import annotations

import argparse
import fcntl
import fnmatch
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ovdet.errors import InputError
from ovdet.files import write_whole

SPLITS = ("75_25", "48_17")
TRAINED = ("supervised", "text", "image", "vild", "ensemble")
"""Variants with a training of their own; "crops" borrows the text variant's boxes."""
VARIANTS = (*TRAINED, "crops")
TAUGHT = ("image", "vild", "ensemble")
STYLES = ("trained", "twemoji", "openmoji")
SEEDS = (0, 1)
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Stage:
    """One command and what it needs.

    Attributes:
        name: unique; also the name of its marker.
        command: arguments after the interpreter, or after `npm`-like programs none.
        needs: names of stages that come first.
        environment: set for the command.
    """

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def stages(root: Path, teacher: Path | None = None) -> list[Stage]:
    """All stages in an order that respects their needs.

    Args:
        root: everything is kept here.
        teacher: compact file of one that is trained; None trains it here.
    """
    world = {"OVDET_STICKERS": f"{root}/pack", "OVDET_GROUNDS": f"{root}/grounds"}
    made = [
        Stage("pack", ("tools/data/pack_stickers.py", "--out", f"{root}/pack")),
        Stage("grounds", ("tools/data/fetch_grounds.py", "--out", f"{root}/grounds")),
    ]
    needs: tuple[str, ...] = ("grounds",)
    if teacher is None:
        made += _teachers(root, world)
        teacher, needs = root / "teacher.safetensors", ("grounds", "teacher-file")
    for split in SPLITS:
        trunk = f"trunk-{split}"
        made.append(_training(trunk, f"vlm/sticker_base_{split}", root, ("pack",), {"OVDET_STICKERS": f"{root}/pack"}))
        for seed in SEEDS:
            made += _detectors(root, split, seed, teacher, world, (*needs, trunk))
    start = _start("ensemble", teacher, teacher)
    made.append(_training("shipped", "vild/stickers_shipped", root, needs, world, options=start))
    masks = (f"model.start={root}/shipped/last.pth", f"custom_hooks.1.text_tower.weights={teacher}")
    made.append(_training("shipped-masks", "vild/stickers_shipped_masks", root, ("shipped",), world, options=masks))
    for name, weights in (("shipped", "shipped"), ("shipped_crops", "shipped-masks")):
        made += [_test(root, name, f"vild/stickers_{name}", weights, style, world, teacher) for style in STYLES]
    made.append(Stage("table", ("tools/reproduce/sticker_table.py", str(root)), tuple(stage.name for stage in made)))
    return made


def _teachers(root: Path, world: dict[str, str]) -> list[Stage]:
    """The teacher's three stages, and the file that all detectors learn from."""
    first, restyled = f"{root}/teacher/last.pth", "teacher-restyled"
    starts = (f"model.task.start={root}/{restyled}/last.pth", f"model.task.fixed_texts={first}")
    final = f"{root}/teacher.safetensors"
    return [
        _training("teacher", "vlm/sticker_clip", root, ("pack",), {"OVDET_STICKERS": f"{root}/pack"}),
        _training(restyled, "vlm/sticker_clip_restyled", root, ("teacher",), world, options=(f"load_from={first}",)),
        _training("teacher-scenes", "vlm/sticker_clip_scenes", root, ("grounds", restyled), world, options=starts),
        Stage(
            "teacher-file",
            ("tools/convert/sticker_clip.py", f"{root}/teacher-scenes/last.pth", final, "--pack", f"{root}/pack"),
            ("teacher-scenes",),
        ),
    ]


def _detectors(
    root: Path, split: str, seed: int, teacher: Path, world: dict[str, str], needs: tuple[str, ...]
) -> Iterator[Stage]:
    for variant in VARIANTS:
        config, name = f"vild/stickers_{split}_{variant}", f"{split}-{variant}-{seed}"
        if variant in TRAINED:
            start = _start(variant, root / f"trunk-{split}" / "last.pth", teacher)
            yield _training(name, config, root, needs, world, seed, start)
        weights = name if variant in TRAINED else f"{split}-text-{seed}"
        for style in STYLES:
            yield _test(root, name, config, weights, style, world, teacher)


def _start(variant: str, trunk: Path, teacher: Path) -> tuple[str, ...]:
    """Options that say where a detector's trunk comes from and who teaches."""
    options = [f"model.trunk_checkpoint={trunk}", f"custom_hooks.1.text_tower.weights={teacher}"]
    return (*options, *([f"custom_hooks.1.teacher.weights={teacher}"] if variant in TAUGHT else []))


def _training(
    name: str,
    config: str,
    root: Path,
    needs: tuple[str, ...],
    environment: dict[str, str],
    seed: int = 0,
    options: tuple[str, ...] = (),
) -> Stage:
    command = (
        "tools/train.py",
        f"configs/{config}.py",
        "--work-dir",
        f"{root}/{name}",
        "--seed",
        str(seed),
        "--resume",
    )
    return Stage(name, (*command, *(("--cfg-options", *options) if options else ())), needs, environment)


def _test(
    root: Path,
    name: str,
    config: str,
    weights: str,
    style: str,
    world: dict[str, str],
    teacher: Path,
) -> Stage:
    towers = ("text_tower", "teacher") if config.endswith("crops") else ("text_tower",)
    options = [f"custom_hooks.1.{each}.weights={teacher}" for each in towers]
    if style != "trained":
        options.append(f"test_dataloader.dataset.styles={style}")
    command = ("tools/test.py", f"configs/{config}.py", f"{root}/{weights}/last.pth", "--work-dir", f"{root}/{name}")
    out = ("--out", f"{root}/results/{name}-{style}.json")
    return Stage(f"test-{name}-{style}", (*command, *out, "--cfg-options", *options), (weights,), world)


def done(root: Path, name: str) -> bool:
    """Whether a stage was finished here."""
    return _marker(root, name).is_file()


def run_stage(root: Path, stage: Stage) -> float:
    """Run one stage to its end and mark it; gives its seconds.

    Raises:
        InputError: the command failed.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **stage.environment}
    shown = " ".join(f"{key}={shlex.quote(value)}" for key, value in stage.environment.items())
    print(f"[{stage.name}] {shown} python {shlex.join(stage.command)}".replace("  ", " "), flush=True)
    start = time.monotonic()
    finished = subprocess.run([sys.executable, *stage.command], env=environment, cwd=REPOSITORY)
    if finished.returncode:
        raise InputError(
            f"stage {stage.name} ended with {finished.returncode}; mend it and give the same command again"
        )
    if stage.command[0] == "tools/train.py":
        _point_to_last(root / stage.name)
    seconds = time.monotonic() - start
    record = {"stage": stage.name, "command": list(stage.command), "last_run_seconds": round(seconds)}
    write_whole(_marker(root, stage.name), (json.dumps(record, indent=1) + "\n").encode())
    return seconds


def _point_to_last(folder: Path) -> None:
    """Let `last.pth` be the newest checkpoint of a training."""
    newest = Path((folder / "last_checkpoint").read_text(encoding="utf-8").strip())
    link = folder / "last.pth"
    link.unlink(missing_ok=True)
    link.symlink_to(newest.name)


def _marker(root: Path, name: str) -> Path:
    return root / "done" / f"{name}.json"


@contextmanager
def claimed(root: Path, name: str) -> Iterator[bool]:
    """Whether this process has the stage for itself; the claim ends with the process, however it ends."""
    path = root / "done" / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True


def run_all(root: Path, chosen: Sequence[Stage], *, wait: float = 20.0) -> None:
    """Run stages whose needs are met until none is left; waits for those that another process has begun."""
    left = [stage for stage in chosen if not done(root, stage.name)]
    names = {stage.name for stage in left}
    while left:
        began = False
        for stage in left:
            missing = [need for need in stage.needs if not done(root, need)]
            if missing and not names & set(missing):
                raise InputError(f"stage {stage.name} needs {missing[0]}, which is neither done nor among those to do")
            if missing:
                continue
            with claimed(root, stage.name) as mine:
                if mine and not done(root, stage.name):
                    run_stage(root, stage)
                began = began or mine
        left = [stage for stage in left if not done(root, stage.name)]
        if left and not began:
            time.sleep(wait)


def main(argv: list[str] | None = None) -> int:
    """Run the stages; 2 with one sentence on stderr where something is wrong, 130 where the user stops it."""
    args = _arguments().parse_args(argv)
    root = args.root.resolve()
    try:
        if args.teacher is not None and not args.teacher.is_file():
            raise InputError(f"--teacher {args.teacher}: there is no such file")
        every = stages(root, None if args.teacher is None else args.teacher.resolve())
        chosen = [stage for stage in every if any(fnmatch.fnmatch(stage.name, only) for only in args.only)]
        if not chosen:
            raise InputError(f"no stage is called {' or '.join(args.only)}; --list shows them")
        if args.list:
            for stage in chosen:
                print(f"{'done' if done(root, stage.name) else '    '}  {stage.name}")
            return 0
        (root / "results").mkdir(parents=True, exist_ok=True)
        run_all(root, chosen)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("work_dirs/stickers"), help="everything is kept here")
    parser.add_argument(
        "--only",
        nargs="+",
        default=["*"],
        metavar="STAGE",
        help='names, with wild cards: "48_17-*-0" "test-48_17-*-0-*"',
    )
    parser.add_argument(
        "--teacher", type=Path, metavar="FILE", help="a trained teacher, such as the shipped one, instead of its stages"
    )
    parser.add_argument("--list", action="store_true", help="show the stages and which are done")
    return parser


if __name__ == "__main__":
    sys.exit(main())
