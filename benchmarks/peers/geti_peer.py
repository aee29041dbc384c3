"""Geti's training library, getitune: `create_engine(...)` and `train()` with the recipe of its MobileNet.

The recipe is `mobilenet_v3_large` of getitune: SGD at 0.0058 with a warm-up of ten steps, halved where F1 on validation stands
still for three epochs, at most 90 epochs, ended after five without progress, the epoch with the highest F1. Its network gives way
to MobileNetV2 with the common weights, by getitune's class for timm's networks, which takes a file of weights; its images are as
large as the others'. The crops are getitune's own, from 8% of the image on. It has no setting that keeps the statistics of batch
normalisation: they follow the batches.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import common
import numpy as np
import polars
import yaml
from autogluon_peer import checkpoint
from datumaro.experimental import Dataset, Sample
from datumaro.experimental.categories import LabelCategories
from datumaro.experimental.export_import import ExportMode, export_dataset
from datumaro.experimental.fields import ImageInfo, Subset, image_info_field, image_path_field, label_field, subset_field
