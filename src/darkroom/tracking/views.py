"""Views of MLflow's runs page that come with the project: columns, order and charts.

MLflow keeps a view that a person saves as a tag of the experiment, lists it under "Views", and a link names it by its
key. These are views of that kind, so that a page opens with what matters here and each person may still change it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from darkroom.tracking.entities import MEMBER_OF, MODEL, STAGE

TAG = "mlflow.sharedViewState."  # and the key: where MLflow looks for a shared view
MODE = "workflowType=machine_learning"  # without it MLflow's menu opens the pages of language models
PIPELINES, MODELS = "pipelines", "models"
RESULTS = ("metrics.`test_accuracy`", "metrics.`best_val_accuracy`", "metrics.`parameters`")
STUDY = "study-"  # and its name
SECTION = "study"
MEMBER, FINAL = "member", "val_accuracy"  # of the runs of a study: the param that all seeds share, and the metric


def built_in() -> dict[str, str]:
    """Return the views that every experiment has, as tags: pipelines, newest first, and trained models, best first."""
    pipelines = {
        "orderByKey": "attributes.start_time", "orderByAsc": False, "selectedColumns": [*RESULTS, f"tags.`{MODEL}`"],
    }  # fmt: skip
    models = {
        "searchFilter": f"metrics.`best_val_accuracy` > 0 AND tags.`{STAGE}` != 'pipeline'",
        "orderByKey": "metrics.`best_val_accuracy`",
        "orderByAsc": False,
        "selectedColumns": [*RESULTS, f"tags.`{MODEL}`", "params.`backbone`", "metrics.`duration_seconds`"],
    }
    return {
        f"{TAG}{PIPELINES}": saved("Pipelines, newest first", pipelines),
        f"{TAG}{MODELS}": saved("Models, best first", models),
    }


def saved(name: str, state: Mapping[str, Any], time: float = 0.0) -> str:
    """Return the value of the tag of a view, which MLflow lists by its name; `time` is in seconds since 1970."""
    return json.dumps({"name": name, "createdAt": int(time * 1000), "state": json.dumps(state)})


def study(run_key: str, varied: Sequence[str]) -> dict[str, Any]:
    """Return the view of a study's members, grouped over seeds: bars and curves by label, the best first.

    `run_key` is the key of the record that the members are below, `varied` has the params in which they differ.
    """
    columns = dict.fromkeys([f"metrics.`{FINAL}`", *(f"params.`{name}`" for name in (*varied, "label", "seed", "architecture"))])
    chart = {"deleted": False, "isGenerated": False, "runsCountToCompare": 100, "metricSectionId": SECTION}
    line = {"type": "LINE", "xAxisKey": "step", "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}
    accuracy = {"metricKey": FINAL, "selectedMetricKeys": [FINAL]}
    loss = {"metricKey": "train_loss", "selectedMetricKeys": ["train_loss"], "scaleType": "log"}
    return {
        "searchFilter": f"tags.`{MEMBER_OF}` = '{run_key}'",
        "orderByKey": f"metrics.`{FINAL}`",
        "orderByAsc": False,
        "selectedColumns": list(columns),
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": MEMBER}]},
        "runsHiddenMode": "SHOW_ALL",
        "isAccordionReordered": True,
        "compareRunSections": [{"uuid": SECTION, "name": "Members of the study", "display": True, "isReordered": True}],
        "compareRunCharts": [
            {**chart, "uuid": "bars", "type": "BAR", **accuracy},
            {**chart, "uuid": "curves", **line, "scaleType": "linear", **accuracy},
            {**chart, "uuid": "losses", **line, **loss},
        ],
    }


def address(base: str, experiment: str, key: str, charts: bool = False) -> str:
    """Return the address of a view on the server `base`; an empty one makes a link within MLflow's pages."""
    return f"{base and f'{base}/'}#/experiments/{experiment}/runs?viewStateShareKey={key}&{MODE}{'&compareRunsMode=CHART' * charts}"
