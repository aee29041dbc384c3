"""The image of a worker and the template of its Kubernetes jobs."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch

from prefect.client.schemas.actions import WorkPoolCreate

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
