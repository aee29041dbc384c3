"""The recipe of PyTorch's tutorial in its strongest form (benchmarks/tutorial.py), in Darkroom's own environment.

Channels-last, random crops as large as Darkroom's, and the number of threads that was quicker.
"""

from __future__ import annotations

import sys
from pathlib import Path

import common

sys.path.append(str(Path(__file__).parents[1]))
import tutorial

if __name__ == "__main__":
    settings = {
        "network_name": "mobilenet_v2", "trained": [], "head_epochs": 10, "finetune_epochs": 10, "threads": 2,
        "smallest_crop": 0.65, "channels_last": True,
    }  # fmt: skip
    common.run(tutorial.fit, settings, ("torch", "torchvision"))
