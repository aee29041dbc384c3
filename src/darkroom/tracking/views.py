"""Views of MLflow's runs page that come with the project: columns, order and charts.

MLflow keeps a view that a person shares as a tag of the experiment, and a link names it by its key. These are
views of that kind, so that a page opens with what matters here and each person may still change it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from darkroom.tracking.entities import MEMBER_OF, STAGE

TAG = "mlflow.sharedViewState."  # and the key: where MLflow looks for a shared view
MODE = "workflowType=machine_learning"  # without it MLflow's menu opens the pages of language models
PIPELINES, MODELS = "pipelines", "models"
RESULTS = ("metrics.`test_accuracy`", "metrics.`best_val_accuracy`", "metrics.`parameters`")
STUDY = "study-"  # and its name
SECTION = "study"
MEMBER, FINAL = ("comparison", "label"), "val_accuracy"  # of the members of a study: the params that name them, and their metric
NEWEST = {"orderByKey": "attributes.start_time", "orderByAsc": False}


def built_in() -> dict[str, str]:
    """Return the views that every experiment has, as tags: pipelines, newest first, and trained models, best first."""
    views: dict[str, dict[str, Any]] = {
        PIPELINES: {**NEWEST, "selectedColumns": [*RESULTS, "tags.`darkroom.model`"]},
        MODELS: {
            "orderByKey": "metrics.`best_val_accuracy`",
            "orderByAsc": False,
            "searchFilter": f"metrics.`best_val_accuracy` > 0 AND tags.`{STAGE}` != 'pipeline'",
            "selectedColumns": [*RESULTS, "params.`stage`", "params.`backbone`", "metrics.`duration_seconds`"],
        },
    }
    return {f"{TAG}{key}": json.dumps(view) for key, view in views.items()}


def study(run_key: str, varied: Sequence[str]) -> dict[str, Any]:
    """Return the view of a study's members, grouped over seeds: bars and curves by label, the best first.

    `run_key` is the key of the record that the members are below, `varied` has the params in which they differ.
    """
    chart = {"deleted": False, "isGenerated": False, "runsCountToCompare": 100, "metricSectionId": SECTION}
    accuracy = {"metricKey": FINAL, "selectedMetricKeys": [FINAL]}
    loss = {"metricKey": "train_loss", "selectedMetricKeys": ["train_loss"]}
    line = {"type": "LINE", "xAxisKey": "step", "scaleType": "linear", "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
    coordinates = {"selectedParams": [*MEMBER, "seed"], "selectedMetrics": ["parameters", FINAL], "showAllRuns": True}
    return {
        "searchFilter": f"tags.`{MEMBER_OF}` = '{run_key}'",
        "orderByKey": f"metrics.`{FINAL}`",
        "orderByAsc": False,
        "selectedColumns": [f"metrics.`{FINAL}`", *(f"params.`{name}`" for name in dict.fromkeys([*MEMBER, "seed", *varied]))],
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": name} for name in MEMBER]},
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,
        "compareRunSections": [{"uuid": SECTION, "name": "Members of the study", "display": True, "isReordered": True}],
        "compareRunCharts": [
            {**chart, "uuid": "bars", "type": "BAR", **accuracy},
            {**chart, "uuid": "curves", **line, **accuracy},
            {**chart, "uuid": "losses", **line, **loss},
            {**chart, "uuid": "coordinates", "type": "PARALLEL", **coordinates},
        ],
    }


def address(base: str, experiment: str, key: str, charts: bool = False) -> str:
    """Return the address of a view on the server `base`; an empty one makes a link within MLflow's pages."""
    return f"{base}/#/experiments/{experiment}/runs?viewStateShareKey={key}&{MODE}{'&compareRunsMode=CHART' * charts}"
