"""The packaged model behind MLflow's scoring server, in this process."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from mlflow import pyfunc
from mlflow.pyfunc import scoring_server

from darkroom.inference.classifier import Classifier
from darkroom.inference.held_out import as_file
from darkroom.tracking import entities, model_package, registry
from tests.tracking.test_registry import checkpoint, pack

pytestmark = pytest.mark.slow

IMAGE = base64.b64encode(as_file(np.random.default_rng(1).integers(0, 256, (40, 30, 3), np.uint8))).decode()
BAD = ["no base64!", base64.b64encode(b"no image").decode(), None, 3, ""]


@pytest.fixture(scope="module")
def packaged(tmp_path_factory) -> Path:
    """Return the folder of a packaged model."""
    place = tmp_path_factory.mktemp("serving")
    package = place / "package"
    (package / registry.EVALUATION).mkdir(parents=True)
    folder = checkpoint(place / "model", 1)
    pack(folder, package)
    model_package.save(place / "packaged", folder, package, "m-1")
    assert (package / entities.EXPORTED / "README.md").exists()
    return place / "packaged"


@pytest.fixture(scope="module")
def client(packaged) -> TestClient:
    """Return a client of the server of a packaged model."""
    return TestClient(scoring_server.init(pyfunc.load_model(str(packaged))))


def ask(client: TestClient, body: dict) -> list[dict]:
    response = client.post("/invocations", json=body)
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def bodies(images: list) -> dict[str, dict]:
    """Return a request for these images in each of MLflow's formats."""
    return {
        "dataframe_split": {"dataframe_split": {"columns": ["image"], "data": [[image] for image in images]}},
        "dataframe_records": {"dataframe_records": [{"image": image} for image in images]},
        "inputs": {"inputs": {"image": images}},
        "list": {"inputs": images},
        "instances": {"instances": [{"image": image} for image in images]},
    }


@pytest.mark.parametrize("format", list(bodies([])))
def test_every_format_of_a_request_gets_the_same_answer(client, format):
    """A row for each image, with a label and probabilities; as a data URL an image is the same one."""
    outputs = ask(client, bodies([IMAGE, f"data:image/png;base64,{IMAGE}"])[format])
    (alone,) = ask(client, bodies([IMAGE])["dataframe_split"])
    assert outputs == [alone, alone]
    assert alone["error"] is None
    assert alone["label"] == max(alone["probabilities"], key=alone["probabilities"].get)


@pytest.mark.parametrize("format", ["dataframe_split", "dataframe_records", "inputs"])
def test_a_bad_row_has_an_error_of_its_own(client, format):
    """What is no image has an error and no label; the other rows are answered."""
    rows = ask(client, bodies([IMAGE, *BAD, IMAGE])[format])
    assert [row["error"] is None for row in rows] == [True, *[False] * len(BAD), True]
    assert all(row["label"] is None and row["probabilities"] is None for row in rows[1:-1])
    assert rows[0] == rows[-1]
    assert rows[0]["label"]


@pytest.mark.parametrize("coverage", [0.3, 0.9])
def test_a_request_with_a_coverage_gets_prediction_sets(client, packaged, coverage):
    """They are those of the checkpoint; without a coverage there are none, and an impossible one is refused with the status 400."""
    (plain,) = ask(client, bodies([IMAGE])["dataframe_split"])
    assert plain["prediction_set"] is None
    rows = ask(client, bodies([IMAGE, BAD[1]])["dataframe_split"] | {"params": {"coverage": coverage}})
    classifier = Classifier.load(packaged / "artifacts" / "checkpoint")
    (prediction,) = classifier.predict_files([base64.b64decode(IMAGE)])
    assert [rows[0]["prediction_set"]] == classifier.prediction_sets(prediction.probabilities[None], coverage)
    assert rows[1]["prediction_set"] is None
    refused = client.post("/invocations", json=bodies([IMAGE])["dataframe_split"] | {"params": {"coverage": 0.99}})
    assert refused.status_code == 400
    assert "at most 0.952" in refused.json()["message"]


def test_unknown_images_are_those_of_the_checkpoint(client, packaged):
    """An image unlike the training images is unknown in the served answer as by the checkpoint; an unreadable one is neither."""
    rng = np.random.default_rng(2)
    files = [as_file(rng.integers(low, high, (16, 16, 3), np.uint8)) for low, high in ((0, 100), (254, 256))]
    rows = ask(client, bodies([*(base64.b64encode(file).decode() for file in files), BAD[1]])["dataframe_split"])
    classifier = Classifier.load(packaged / "artifacts" / "checkpoint")
    assert [row["unknown"] for row in rows] == [False, True, None]
    distances = [prediction.distance for prediction in classifier.predict_files(files)]
    assert [row["distance"] for row in rows[:2]] == pytest.approx(distances, rel=1e-3)
    assert [classifier.threshold.is_unknown(distance) for distance in distances] == [False, True]


def test_a_request_without_images_is_refused(client):
    """The column's name is in the message, and the status is 400."""
    response = client.post("/invocations", json={"inputs": {"picture": [IMAGE]}})
    assert response.status_code == 400
    assert "image" in response.json()["message"]


def test_the_input_example_is_a_request(client, packaged):
    """The example that the model's page in MLflow shows can be sent as it stands."""
    example = (packaged / "serving_input_example.json").read_bytes()
    response = client.post("/invocations", content=example, headers={"Content-Type": "application/json"})
    assert response.status_code == 200, response.text
    assert response.json()["predictions"][0]["error"] is None
