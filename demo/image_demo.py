"""Find things by name in a picture and draw them.

python demo/image_demo.py                                       # demo/coffee.jpg
python demo/image_demo.py holiday.jpg dog "beach umbrella"
"""

import sys
from pathlib import Path

from ovdet import Detector
from ovdet.media import read_picture, write_picture

picture, *names = sys.argv[1:] or [Path(__file__).with_name("coffee.jpg"), "coffee cup", "saucer", "spoon", "cat"]
image = read_picture(picture)
result = Detector()(image, names)
write_picture(Path("image_demo.jpg"), result.draw(image))

print(*(f"{name}: {score:.2f}" for name, score in zip(result.names, result.scores, strict=True)), sep="\n")
