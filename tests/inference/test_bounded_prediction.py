"""Predictions of files hold one whole picture at a time, and a served request has limits."""

from __future__ import annotations

import base64
import weakref
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from darkroom.inference import image_files, predict
from darkroom.tracking import pyfunc_model
from tests.data.test_decoding import encoded, photo

PREPROCESSING = SimpleNamespace(image_size=16, resize="crop", background=(0, 0, 0))


class Classifier:
    """A classifier that predicts the mean of an image's red channel as the share of the first class."""

    classes, threshold = ("red", "other"), None

    def predict_files(self, contents, max_pixels=None):
        def probabilities(images):
            red = images[..., 0].mean((1, 2)) / 255
            return predict.Measured(np.stack([red, 1 - red], axis=1))

        return predict.predict_files(contents, PREPROCESSING, probabilities, max_pixels)


def test_one_whole_picture_is_in_memory_at_a_time(tmp_path, monkeypatch):
    """While a file is decoded, the pictures and bytes of those before are gone."""
    decoded = []
    decode = predict.decode

    def watched(content, *settings, **limits):
        assert not [reference for reference in decoded if reference() is not None]
        image = decode(content, *settings, **limits)
        decoded.append(weakref.ref(image))
        return image

    monkeypatch.setattr(predict, "decode", watched)
    for i in range(20):
        (tmp_path / f"{i:02}.png").write_bytes(b"broken" if i == 3 else encoded(photo(40 + i, 30)))
    paths = [*sorted(tmp_path.iterdir()), tmp_path / "gone.png"]
    rows = list(image_files.predict_paths(Classifier(), paths))
    assert [row.path for row in rows] == [str(path) for path in paths]
    assert [row.path for row in rows if row.error] == [str(tmp_path / "03.png"), str(tmp_path / "gone.png")]
    assert len(decoded) == 20


@pytest.fixture
def served():
    model = pyfunc_model.ExportedModel()
    model.models = {pyfunc_model.FLOAT32: Classifier()}
    return lambda images: model.predict(None, pd.DataFrame({"image": images}))


@pytest.mark.parametrize("encode", [bytes, lambda content: base64.b64encode(content).decode()])
def test_an_image_above_the_limits_has_an_error(served, monkeypatch, encode):
    """Too many bytes and too many pixels are an error of that image alone, and cost no decoding."""
    small, long, large = encoded(photo()), encoded(photo()) + b"\0" * 5000, encoded(photo(300, 200))
    monkeypatch.setattr(pyfunc_model, "MAX_BYTES", 3000)
    monkeypatch.setattr(pyfunc_model, "MAX_PIXELS", 50_000)
    result = served([encode(content) for content in (small, long, large, small, b"none")])
    assert [error is None for error in result["error"]] == [True, False, False, True, False]
    assert "50,000 pixels" in result["error"][1] == result["error"][2]
    assert result["probabilities"][0] == result["probabilities"][3]


def test_a_request_of_too_many_images_is_refused(served, monkeypatch):
    """The message names the limit; nothing is decoded."""
    monkeypatch.setattr(pyfunc_model, "MAX_IMAGES", 3)
    assert len(served([encoded(photo())] * 3)) == 3
    with pytest.raises(MlflowException, match="limit is 3") as caught:
        served([encoded(photo())] * 4)
    assert caught.value.get_http_status_code() == 400
