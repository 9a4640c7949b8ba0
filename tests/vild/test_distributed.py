"""Two processes, one of which has nothing to distil: DDP without find_unused_parameters neither hangs nor diverges."""

import os
import subprocess
import sys
import textwrap

import pytest

SCRIPT = textwrap.dedent(
    """
    import datetime, sys
    import ovdet
    import torch
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData
    from torch.nn.parallel import DistributedDataParallel
    from ovdet.engine.launch import run
    from ovdet.vild.build import vild_tiny

    torch.set_num_threads(1)
    rank, store, variant = int(sys.argv[1]), sys.argv[2], sys.argv[3]


    def train():
        torch.manual_seed(0)
        model = vild_tiny(variant, with_mask=False)
        model.set_class_embeddings(torch.randn(4, 32))
        wrapped = DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        torch.manual_seed(rank)
        for step in range(2):
            sample = DetDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0)))
            boxes = torch.tensor([[8.0, 8, 40, 40]] if rank == 0 else []).reshape(-1, 4)
            sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long))
            if rank == 0:
                sample.proposals = InstanceData(bboxes=boxes, scores=torch.ones(1), embeds=torch.randn(1, 32))
            picture = torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8)
            data = model.data_preprocessor({"inputs": [picture], "data_samples": [sample]}, True)
            loss, _ = model.parse_losses(wrapped(**data, mode="loss"))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert torch.isfinite(loss)
        flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        other = [torch.empty_like(flat) for _ in range(2)]
        torch.distributed.all_gather(other, flat)
        assert torch.equal(other[0], other[1]), "the two processes hold different weights"
        print("same", flush=True)


    def main():
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{store}", rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
        )
        train()


    sys.exit(run(main))
    """
)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["vild", "ensemble"])
def test_a_process_without_regions_keeps_step(tmp_path, variant):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-P", "-c", SCRIPT]  # the ovdet that is being tested, not what lies about
    running = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path / "store"), variant],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=180)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], said
    assert all(text.rstrip().endswith("same") for text in said)
