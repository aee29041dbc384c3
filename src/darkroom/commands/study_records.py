"""The record of a study for MLflow: a run of its own, and below it a run for each member."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from darkroom.config.study_settings import Setting
from darkroom.studies.base import Study
from darkroom.studies.run_config import RunConfig, RunResult
from darkroom.studies.samples import Sample
from darkroom.tracking import records, views

RECORDED = (  # fields of a run that its record has, unless they are empty
    "lr", "optimizer", "schedule", "batch_size", "weight_decay", "warmup", "scheme", "policy", "views", "image_size", "images",
    "weights", "trained_blocks",
)  # fmt: skip


class StudyRecord:
    """The record of a study that is under way."""

    def __init__(self, study: Study, name: str, settings: Setting, samples: Mapping[str, Sample], run: records.Run) -> None:
        self.study, self.name, self.run, self.samples = study, name, run, samples
        self.common = _plain(settings)
        self.recorded: set[str] = set()  # keys of the members

    def add(self, result: RunResult, tags: Mapping[str, str] = MappingProxyType({})) -> None:
        """Record a member that has been trained: what it varies as params, its curve, its costs."""
        config = result.config
        self.recorded.add(config.key())
        params = self.common | _params(config)
        with records.start_run(f"study@{self.name}", params, [], f"{_member(config)} · seed {config.seed}", self.run) as run:
            run.set_duration(result.seconds)
            run.set_tags({"darkroom.study": self.name, "darkroom.data": self.samples[config.sample].digest, **tags})
            for point in result.curve:
                values = {key: value for key, value in vars(point).items() if key != "step" and value is not None}
                run.log_metrics(values, point.step)
            run.log_metrics({"parameters": result.parameters, "multiply_adds": result.multiply_adds, "lr": result.lr})
            run.log_metrics({"ms_per_image": result.latency})

    def finish(self, results: Sequence[RunResult], finding: str, folder: Path) -> None:
        """Record the finding and the files of the results.

        Where members were trained, those whose results were cached are recorded too, so that all can be compared.
        """
        if not self.recorded:
            self.run.set_tags({"mlflow.note.content": f"{finding}\n\nEvery result was cached, so no member is listed here."})
        else:
            for result in results:
                if result.config.key() not in self.recorded:
                    self.add(result, {"darkroom.cached": "true"})
            state = views.study(self.run.key, [name for name in self.study.varies if name in RECORDED])
            self.run.save_view(f"{views.STUDY}{self.name}", state, finding)
        for path in sorted(folder.iterdir()):
            self.run.log_artifact(path)


@contextmanager
def start(study: Study, name: str, settings: Setting, samples: Mapping[str, Sample]) -> Iterator[StudyRecord]:
    """Record a study; members are added while it runs."""
    with records.start_run(f"study@{name}", _plain(settings), []) as run:
        run.set_tags({"darkroom.study": name})
        yield StudyRecord(study, name, settings, samples, run)


def _plain(settings: Setting) -> dict[str, object]:
    return {key: value for key, value in settings.model_dump().items() if not isinstance(value, (list, dict))}


def _params(config: RunConfig) -> dict[str, object]:
    own = {views.MEMBER: _member(config)} | {key: getattr(config, key) for key in ("comparison", "label", "seed", "architecture")}
    own |= {key: getattr(config, key) for key in RECORDED if getattr(config, key) not in ("", 0, None)}
    own |= config.options
    return own | ({"pretraining": config.pretraining.label} if config.pretraining else {})


def _member(config: RunConfig) -> str:
    """Return the name that the seeds of a label share: `mlp · xavier`."""
    return " · ".join(filter(None, (config.comparison, config.label)))
