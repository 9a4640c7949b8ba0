"""X-VLM base on VQAv2 at 480 pixels, with Visual Genome's questions.   tools/dist_train.sh configs/xvlm/vqa_480.py 8

Official README: half a point more than at 384 pixels (a comment of the official code).
The last of 10 passes is the published one. Then the test's answers are written to work_dirs/vqa_answers.json, for the
server; tools/test.py scores the official val questions, which were learned too: docs/grounding_data.md has more.
Here: not trained yet; builds and steps on CPU in small (tests/test_xvlm_configs.py).
"""

from mmengine.config import read_base

with read_base():
    from .vqa import *

model.task.update(image_size=480)
for loader in (train_dataloader, val_dataloader, test_dataloader):
    loader.dataset.update(side=480)
del loader
