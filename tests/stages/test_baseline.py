"""The baseline: any architecture by name is trained and saved."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ruamel.yaml import YAML

from darkroom.commands import check
from darkroom.config.params import parse
from darkroom.core.errors import DarkroomError
from darkroom.inference.classifier import Classifier
from darkroom.models import checkpoint
from darkroom.stages import baseline


@pytest.mark.parametrize(
    ("architecture", "channels"),
    [
        ("lenet5", 1),
        pytest.param("resnet8", 3, marks=pytest.mark.slow),
        ("compact", 1),
        pytest.param("squeezenet1_1", 3, marks=pytest.mark.slow),
    ],
)
def test_the_baseline_is_the_network_that_params_name(tmp_path, monkeypatch, values, architecture, channels):
    """The stage trains the named architecture, and its checkpoint tells it when it is read again; ResNet twice,
    with the same bytes.
    """
    monkeypatch.setenv("DARKROOM_TRACKING", "off")
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 2
    images = (rng.integers(0, 100, (24, 28, 28, 3)) + 150 * labels[:, None, None, None]).astype(np.uint8)
    for folder, content in (("augmented", {"views": images[None]}), ("val", {"images": images})):
        (tmp_path / folder).mkdir()
        for name, array in (content | {"labels": labels.astype(np.int64)}).items():
            np.save(tmp_path / folder / f"{name}.npy", array)
    (tmp_path / "augmented" / "policy.json").write_text(json.dumps({"storage": "stored"}))
    (tmp_path / "classes.json").write_text('["dark", "bright"]')
    values["ingest"] |= {"image_size": 28}
    values["baseline"] |= {"architecture": architecture, "channels": channels, "epochs": 6, "batch_size": 8, "width": 4}
    with (tmp_path / "params.yaml").open("w") as file:
        YAML(typ="safe").dump(values, file)
    outs = ("one", "two") if architecture == "resnet8" else ("one",)
    for out in outs:
        baseline.run(tmp_path / "augmented", tmp_path / "val", tmp_path / "classes.json", tmp_path / out, tmp_path / "cost.json")
    for name in ("model.safetensors", "model.json"):
        assert len({(tmp_path / out / name).read_bytes() for out in outs}) == 1
    network, description = checkpoint.load(tmp_path / "one")
    spec = description.architecture.as_dict()
    assert spec.get("name", "compact") == architecture
    assert spec.get("channels", 3) == channels
    assert next(m for m in network.features.parameters()).shape[1] == channels
    logits = Classifier.load(tmp_path / "one").logits(images)
    assert (logits.argmax(1) == labels).mean() > 0.9


@pytest.mark.parametrize(
    ("architecture", "channels", "message"),
    [("resnet21", 3, "no architecture"), ("autoencoder_conv", 3, "no architecture"), ("squeezenet1_1", 1, "3 channels")],
)
def test_a_wrong_architecture_is_refused_before_anything_runs(values, architecture, channels, message):
    """`darkroom check`, and so every recipe, refuses an architecture that does not exist or cannot be had in
    one channel.
    """
    values["baseline"] |= {"architecture": architecture, "channels": channels}
    with pytest.raises(DarkroomError, match=message):
        check.check_params(parse(values))
