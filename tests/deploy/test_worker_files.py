"""The image of a worker and the template of its Kubernetes jobs."""

from __future__ import annotations

import asyncio
import json
import re
from fnmatch import fnmatch
from unittest import mock
from uuid import uuid4

import pytest
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun

from tests.conftest import ROOT

WORKER = ROOT / "deploy" / "worker"


def test_a_job_is_filled_by_its_variables():
    """Prefect takes the template as that of a pool; each place has a variable with a default, and no run chooses its command."""
    template = json.loads((WORKER / "kubernetes-job.json").read_text())
    WorkPoolCreate(name="cluster", type="kubernetes", base_job_template=template)
    places = set(re.findall(r"{{ (\w+) }}", json.dumps(template["job_configuration"])))
    variables = template["variables"]["properties"]
    assert places == variables.keys()
    assert all({"default", "description"} <= variable.keys() for variable in variables.values())
    assert "command" not in variables
    (container,) = template["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]["containers"]
    assert container["name"] == "prefect-job"  # Prefect's worker refuses another one
    assert "command" not in container


@pytest.mark.parametrize("values", [{}, {"gpus": 1, "env": {"A": "b"}, "name": "left", "labels": {"team": "a"}, "namespace": "x"}])
def test_kubernetes_takes_a_job(values):
    """The job that Prefect's worker makes of the template fits the schemas of Kubernetes, which allow no unknown key."""
    worker = pytest.importorskip("prefect_kubernetes.worker", reason="not a dependency: pip install prefect-kubernetes")
    schemas = pytest.importorskip("kubernetes_validate", reason="not a dependency: pip install kubernetes-validate")
    template = json.loads((WORKER / "kubernetes-job.json").read_text())
    make = worker.KubernetesWorkerJobConfiguration.from_template_and_values
    configuration = asyncio.run(make(template, values, client=mock.AsyncMock()))
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="left of calm-owl 1234", deployment_id=uuid4()))
    job = json.loads(json.dumps(configuration.job_manifest))
    job["metadata"]["name"] = "of which Kubernetes makes one by generateName"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "A", "value": "b"} in container["env"] or not values
    for version in ("1.28", "1.32", "1.37"):
        schemas.validate(job, version, strict=True)


def test_the_image_has_what_a_wheel_needs():
    """All that setup.py puts into the wheel is in the image's context, and the image has the Python of the one of MLflow."""
    shipped = re.search(r"SHIPPED = \((.*?)\)", (ROOT / "setup.py").read_text(), re.DOTALL)
    assert shipped
    context = [line[1:] for line in (WORKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    for pattern in re.findall(r'"(.+?)"', shipped[1]):
        assert any(pattern == line or fnmatch(pattern, f"{line}/*") for line in context), pattern
    bases = [
        re.findall("^FROM .*$", (ROOT / "deploy" / name / "Dockerfile").read_text(), re.MULTILINE) for name in ("worker", "mlflow")
    ]
    assert bases[0] == bases[1]
