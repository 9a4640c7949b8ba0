"""SegGPT's speed and memory, side by side with transformers' class on the same weights.

python tools/benchmarks/seggpt.py --size large --threads 2 --rounds 3                       (the published size)
python tools/benchmarks/seggpt.py --size small --contenders forward paint transformers

Contenders take turns, each in a process of its own. `forward` is the network on one canvas, `paint` a picture by an
example that was encoded before, `compiled` is `forward` through torch.compile, `transformers` is its
SegGptForImageSegmentation (skipped where it is not installed). One that cannot run, such as `compiled` without a C++
compiler, is left out, which a line says. Memory is the highest of the process during a forward minus what it held
before it. The matrix peak is measured in the same run, between the rounds; the share of it counts the work of a whole
canvas, so that `paint`, which does less, may pass 100 %.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ovdet.seggpt.build import seggpt
from ovdet.seggpt.config import SegGPTConfig
from ovdet.seggpt.layouts import config_to_transformers, to_published
from ovdet.seggpt.model import SegGPTModel

SIZES: dict[str, dict[str, Any]] = {
    "large": {},
    "base": dict(width=768, depth=12, heads=12, taps=(2, 5, 8, 11)),
    "small": dict(canvas_hw=(448, 224), width=384, depth=6, heads=6, taps=(2, 3, 4, 5), decoder_channels=32),
    "tiny": dict(canvas_hw=(128, 64), width=96, depth=4, heads=3, taps=(2, 3), decoder_channels=16),
}
CONTENDERS = ("forward", "paint", "compiled", "transformers")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def operations(config: SegGPTConfig) -> float:
    """Multiplications and additions of one whole canvas: what the architecture asks for, however it is computed."""
    rows, columns = config.grid_hw
    tokens, width = rows * columns, config.width
    linear = tokens * width * (4 * width + 2 * config.mlp_width)
    attention = 2 * tokens * tokens * width + tokens * width * (rows + columns)
    passes = config.depth + config.merge_block + 1  # two streams up to the merge
    pixels, channels = tokens * config.patch**2, config.decoder_channels
    decoder = pixels * channels * (len(config.taps) * width + 9 * channels + 3)
    return 2.0 * (passes * (linear + attention) + decoder + 2 * tokens * width * 3 * config.patch**2)


def make_model(size: str) -> SegGPTModel:
    """Random weights, the same in every process; relative positions are not left at zero."""
    torch.manual_seed(0)
    model = seggpt(**SIZES[size]).eval().requires_grad_(False)
    for name, value in model.named_parameters():
        if name.endswith("_table"):
            torch.nn.init.normal_(value, std=0.02)
    return model


def make_inputs(config: SegGPTConfig, batch: int) -> tuple[Tensor, Tensor]:
    """Pictures and paintings of whole canvases."""
    generator = torch.Generator().manual_seed(1)
    shape = (batch, 3, *config.canvas_hw)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def make_contender(name: str, size: str, batch: int, device: str) -> Callable[[], Tensor]:
    """A call that paints the lower halves, (B, 3, h, w)."""
    model = make_model(size)
    config = model.config
    half = config.picture_hw[0]
    images, paintings = (each.to(device) for each in make_inputs(config, batch))
    if name == "transformers":
        from transformers import SegGptConfig, SegGptForImageSegmentation

        other = SegGptForImageSegmentation(SegGptConfig(**config_to_transformers(config))).eval()
        other.load_state_dict(to_published(model.state_dict(), "transformers"), strict=True)
        other = other.to(device).requires_grad_(False)
        del model
        parts = {
            "pixel_values": images[:, :, half:],
            "prompt_pixel_values": images[:, :, :half],
            "prompt_masks": paintings[:, :, :half],
            "embedding_type": "semantic",
        }
        return lambda: other(**parts).pred_masks[:, :, half:]
    model = model.to(device)
    if name == "paint":  # a batch shares the first row's example
        examples = model.encode_examples(images[:1, :, :half], paintings[:1, :, :half])
        return lambda: model.paint(examples, images[:, :, half:])
    rows = torch.arange(config.grid_hw[0], device=device)
    masked = (rows >= config.grid_hw[0] // 2).view(1, -1, 1).expand(1, *config.grid_hw)
    kinds = torch.zeros(batch, dtype=torch.long, device=device)
    call = torch.compile(model) if name == "compiled" else model
    return lambda: call(images, paintings, masked, kinds)[:, :, half:]


def work(connection: Connection, name: str, arguments: argparse.Namespace) -> None:
    """Serve one contender; of a fault that ends it, say in a line what it was."""
    try:
        serve(connection, name, arguments)
    except Exception as error:
        connection.send(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")


def serve(connection: Connection, name: str, arguments: argparse.Namespace) -> None:
    """Each message asks for one forward; the answer is its times, memory and result."""
    torch.set_num_threads(arguments.threads)
    call = make_contender(name, arguments.size, arguments.batch, arguments.device)
    dtype = DTYPES[arguments.dtype]
    cast = nullcontext() if dtype == torch.float32 else torch.autocast(arguments.device, dtype)
    connection.send(None)  # ready
    while connection.recv() == "go":
        before = start_memory(arguments.device)
        wall, cpu = time.perf_counter(), time.process_time()
        with torch.inference_mode(), cast:
            out = call()
        if arguments.device != "cpu":
            torch.cuda.synchronize()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        connection.send((wall, cpu, peak_memory(arguments.device) - before, out.float().cpu().numpy()))
        del out


def start_memory(device: str) -> int:
    """Bytes in use, and forget the highest use so far."""
    gc.collect()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    if sys.platform != "linux":
        return 0
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory(device)


def peak_memory(device: str) -> int:
    """Bytes at the highest."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    if sys.platform != "linux":
        return 0
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def matrix_rate(arguments: argparse.Namespace) -> tuple[float, float]:
    """Operations a second of one large matrix product: by the wall clock, and by processor time."""
    side, dtype = (4096 if arguments.size in ("large", "base") else 2048), DTYPES[arguments.dtype]
    left, right = torch.randn(2, side, side, dtype=dtype, device=arguments.device)
    walls, cpus = [], []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        left @ right
        if arguments.device != "cpu":
            torch.cuda.synchronize()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return 2 * side**3 / min(walls), 2 * side**3 / min(cpus)


def main(argv: list[str] | None = None) -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small", help="of the network (default: small)")
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=["forward", "paint", "transformers"])
    parser.add_argument("--batch", type=int, default=1, help="canvases at once (default: 1)")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help="by autocast where it is not fp32")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3, help="measured forwards of each, after one that is not")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    names = list(arguments.contenders)
    if "transformers" in names and importlib.util.find_spec("transformers") is None:
        print("transformers is not installed; left out (pip install transformers)")
        names.remove("transformers")
    report(arguments, *measure(arguments, names))


def measure(arguments: argparse.Namespace, names: list[str]) -> tuple[dict[str, list[Any]], list[tuple[float, float]]]:
    """Answers of each contender's rounds, and the matrix rates between them."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Any] = {}
    answers: dict[str, list[Any]] = {}
    workers, rates = [], []

    def hear(name: str) -> None:
        """Keep a contender's answer, or leave it out if it has none."""
        try:
            answer = pipes[name].recv()
        except EOFError:
            answer = "its process ended, perhaps for want of memory"
        if isinstance(answer, str):
            print(f"{name} left out: {answer}")
            del pipes[name], answers[name]
        elif answer is not None:
            answers[name].append(answer)

    for name in names:
        answers[name] = []
        pipes[name], theirs = context.Pipe()
        workers.append(context.Process(target=work, args=(theirs, name, arguments), daemon=True))
        workers[-1].start()
        theirs.close()  # so that a worker's end is heard
        hear(name)  # build one after the other
    for _ in range(arguments.rounds + 1):
        rates.append(matrix_rate(arguments))
        for name in list(pipes):
            pipes[name].send("go")
            hear(name)
    for pipe in pipes.values():
        pipe.send("stop")
    for worker in workers:
        worker.join()
    return answers, rates


def report(arguments: argparse.Namespace, answers: dict[str, list[Any]], rates: list[tuple[float, float]]) -> None:
    """Print what was measured; times are the best and the median of the rounds after the first.

    Pictures a second are by the best time: processor time on a CPU, else the clock's.
    """
    with torch.device("meta"):
        config = seggpt(**SIZES[arguments.size]).config
    work_of_one = operations(config) * arguments.batch
    peak_wall, peak_cpu = max(wall for wall, _ in rates), max(cpu for _, cpu in rates)
    print(
        f"{arguments.size}, canvas {config.canvas_hw[0]}x{config.canvas_hw[1]}, batch {arguments.batch}, "
        f"{arguments.dtype}, {arguments.device}, {arguments.threads} threads, torch {torch.__version__}; "
        f"{work_of_one / 1e9:.0f} GFLOP a forward; matrix peak {peak_wall / 1e9:.0f} GFLOP/s by the clock, "
        f"{peak_cpu / 1e9:.0f} by processor time"
    )
    heads = ("wall s", 9), ("median", 9), ("CPU s", 9), ("median", 9), ("a second", 10), ("of peak", 9)
    print(" " * 14 + "".join(f"{head:>{width}}" for head, width in (*heads, ("memory MiB", 12), ("max diff", 10))))
    first = None
    for name, rounds in answers.items():
        walls, cpus = [each[0] for each in rounds[1:]], [each[1] for each in rounds[1:]]
        memory = max(each[2] for each in rounds[1:]) / 2**20
        seconds, peak = (min(cpus), peak_cpu) if arguments.device == "cpu" else (min(walls), peak_wall)
        share = work_of_one / seconds / peak
        first = rounds[0][3] if first is None else first
        apart = "" if name == "paint" and arguments.batch > 1 else f"{abs(rounds[-1][3] - first).max():.1e}"
        print(
            f"{name:14}{min(walls):9.3f}{statistics.median(walls):9.3f}{min(cpus):9.3f}{statistics.median(cpus):9.3f}"
            f"{arguments.batch / seconds:10.3f}{share:9.0%}{memory:12.0f}{apart:>10}"
        )


if __name__ == "__main__":
    main()
