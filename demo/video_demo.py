"""Find things by name in a video, frame by frame, however long it is.

python demo/video_demo.py                                       # demo/video.mp4
python demo/video_demo.py holiday.mp4 dog "beach umbrella"
"""

import itertools
import sys
from pathlib import Path

from ovdet import Detector
from ovdet.media import VideoReader, write_video

source, *names = sys.argv[1:] or [Path(__file__).with_name("video.mp4"), "coffee cup", "tiger", "rocket"]
with VideoReader(source) as video, write_video(Path("video_demo.mp4"), video.fps) as output:
    frames, copies = itertools.tee(frame.image for frame in video)
    for frame, result in zip(frames, Detector()(copies, names), strict=True):
        output.write(result.draw(frame))
