"""The study of tuning: settings that Optuna's TPE or random search finds, against the default ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from darkroom.config.study_settings import Searchable, Setting, Tune
from darkroom.core.axes import Axis
from darkroom.core.charts import Chart, Series
from darkroom.core.errors import ParamsError
from darkroom.core.progress import Progress
from darkroom.models import init
from darkroom.studies import chart_data, runner, summary
from darkroom.studies.base import ReadSample, Study
from darkroom.studies.cache import ResultCache
from darkroom.studies.run_config import RunConfig, RunResult, count_steps
from darkroom.studies.samples import INNER, Sample, split_inner
from darkroom.studies.search import RANDOM, TPE, Search, Trial, Values, best_trial, importances
from darkroom.studies.summary import SummaryRow, by_name, describe_difference

SETTINGS, SEARCHES, IMPORTANCE = "settings", "searches", "trials of random search"
DEFAULT, EMBEDDINGS = "default", "embeddings"
TRIALS = ("sampler", "seed", "trial", "state", "inner_loss", "inner_accuracy", "steps", "epochs")


class TuneStudy(Study):
    title = "Tuning hyper-parameters"
    question = "How much does a search for better settings gain, and is a search that learns from its trials better?"
    paper = "Bergstra et al. 2011, Bergstra and Bengio 2012, Akiba et al. 2019"
    held_constant = (
        "the images and the number of epochs. Both searches try the default settings first and have the same budget. They do not "
        "use the held-out images: a part of the training images judges the trials"
    )
    varies = ("options", "steps", "eval_points", *Searchable.model_fields)
    settings: Tune

    def __init__(self, settings: Setting, trials: Sequence[Trial] = ()) -> None:
        super().__init__(settings)
        self.trials = list(trials)

    @property
    def defaults(self) -> Values:
        """The values of the space without a search."""
        values = self.settings.model_dump()
        options = {f"options.{name}": value for name, value in values["options"].items()}
        return {name: (values | options)[name] for name in self.settings.space}

    def extra_samples(self, own: Sample, read: ReadSample) -> dict[str, Sample]:
        """Return the images of the trials, and those of the pretraining below a head."""
        settings = self.settings
        sources = [settings.pretrain_on] if settings.tuned == EMBEDDINGS else []
        return {INNER: split_inner(own, settings.inner_val_share), **self.pretraining_samples(sources, own, read)}

    def runs(self, images: int) -> list[RunConfig]:
        """Return a run per seed with the default settings, and one with the best settings of each search."""
        runs = []
        for seed in self.settings.run_seeds:
            runs.append(self.configure({}, images, SETTINGS, DEFAULT, seed))
            for sampler, trials in self._searches(seed):
                runs.append(self.configure(best_trial(trials).values, images, SETTINGS, sampler, seed))
        return runs

    def configure(self, values: Values, images: int, comparison: str, label: str, seed: int) -> RunConfig:
        """Return a run with the default settings, except for the values of a trial."""
        settings = self.settings
        fields = {name: values.get(name, getattr(settings, name)) for name in Searchable.model_fields}
        if fields["scheme"]:
            init.scheme(fields["scheme"])
        options = {name: values.get(f"options.{name}", value) for name, value in settings.options.items()}
        steps = count_steps(images, fields["batch_size"], settings.epochs)
        fields |= {"warmup": round(fields["warmup"] * steps), "policy": "" if fields["policy"] == "none" else fields["policy"]}
        run = RunConfig(
            comparison, label, seed, settings.architecture, options, steps=steps, eval_points=settings.eval_points, **fields
        )
        if settings.tuned != EMBEDDINGS:
            return run
        run = replace(run, scheme="", trained_blocks=0, cache_features=not run.policy)
        return self.pretrained(run, settings.pretrain_on)

    def search(self, samples: Mapping[str, Sample], accelerator: str, on_result: Callable[..., None]) -> None:
        """Run both searches with each seed, one trial after another."""
        settings = self.settings
        images = len(samples[INNER].train_labels)
        self._check_space(images)
        runner.check_networks([self.configure(values, images, "", "", 0) for values in self._space_ends()], samples)
        results = ResultCache(samples, accelerator)
        default = self.configure({}, images, "", "", 0)
        runner.pretrain([default], results, 1, on_result)
        initial = results.weights_file(default.pretraining) if default.pretraining else None
        with Progress("trials", 2 * settings.seeds * settings.budget * settings.epochs, "epochs") as progress:

            def on_trial(trial: Trial, is_new: bool) -> None:
                self.trials.append(trial)
                done = min(progress.total, round(settings.epochs * sum(t.cost for t in self.trials)))
                note = f"{trial.sampler} {trial.seed}, trial {trial.number}: {trial.loss:.4f}, {trial.state}"
                progress.advance(done - progress.done, note)
                if is_new:
                    tags = {"sampler": trial.sampler, "trial": str(trial.number), "state": trial.state}
                    on_result(trial.result, {f"darkroom.{key}": value for key, value in tags.items()})

            for seed in settings.run_seeds:

                def configure(values: Values, seed: int = seed) -> RunConfig:
                    return replace(self.configure(values, images, "search", "trial", seed), sample=INNER)

                for sampler in (RANDOM, TPE):
                    budget = settings.pruner, settings.budget, settings.eval_points
                    Search(settings.space, self.defaults, sampler, seed, *budget).run(configure, results, initial, on_trial)

    def _check_space(self, images: int) -> None:
        """Raise ParamsError for an unknown scheme, and for batches with too few steps."""
        settings = self.settings
        sizes = settings.space.get("batch_size", {})
        largest = max([settings.batch_size, sizes.get("high", 0), *sizes.get("choices", [])])
        steps = count_steps(images, largest, settings.epochs)
        if steps < settings.eval_points:
            raise ParamsError(
                f"{settings.epochs} epochs of {images} images in batches of {largest} have {steps} steps, fewer than eval_points "
                f"({settings.eval_points})",
                "lower eval_points, raise epochs, or leave out the largest batches",
            )
        for name in settings.space.get("scheme", {}).get("choices", []):
            if name:
                init.scheme(name)

    def _space_ends(self) -> Iterator[Values]:
        """Yield the default settings, and each choice or end of each setting of the space."""
        yield {}
        for name, declared in self.settings.space.items():
            for value in declared.get("choices", [declared.get("low"), declared.get("high")]):
                yield {name: value}

    def _searches(self, seed: int) -> Iterator[tuple[str, list[Trial]]]:
        """Yield the searches of a seed, each with its trials."""
        for sampler in (RANDOM, TPE):
            trials = [trial for trial in self.trials if (trial.sampler, trial.seed) == (sampler, seed)]
            if trials:
                yield sampler, trials

    def compared(self, results: Sequence[RunResult], sample: Sample) -> list[RunResult]:
        """Return the results, and again those of the searches, to compare them with each other."""
        searched = [result for result in results if result.config.label != DEFAULT]
        return [*results, *(replace(result, config=replace(result.config, comparison=SEARCHES)) for result in searched)]

    def finding(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> str:
        names = by_name(rows)
        gains = [names[SETTINGS, sampler] for sampler in (RANDOM, TPE)]
        gained = any(row.is_significant and not row.is_worse for row in gains)
        differences = "; ".join(f"{row.label} {describe_difference(row, '')}" for row in gains)
        pruned = sum(trial.is_pruned for trial in self.trials)
        return (
            f"Against the default settings: {differences}. TPE against random search: "
            f"{describe_difference(names[SEARCHES, TPE], '')}. {'' if gained else 'Tuning has no significant gain. '}"
            f"Of {len(self.trials)} trials {pruned} were pruned; the most important setting is {self._most_important()[0]}."
        )

    def figures(self, rows: Sequence[SummaryRow], results: Sequence[RunResult]) -> list[dict[str, Any]]:
        """Return the importance of each setting among the trials of random search, and the share of trials that were pruned."""
        figures: list[dict[str, Any]] = [
            {"comparison": IMPORTANCE, "label": name, "importance": share} for name, share in self._importances().items()
        ]
        for sampler in (RANDOM, TPE):
            pruned = [trial.is_pruned for trial in self.trials if trial.sampler == sampler]
            figures.append({"comparison": "trials", "label": sampler, "pruned": sum(pruned) / max(1, len(pruned))})
        return figures

    def charts(self, results: Sequence[RunResult]) -> list[Chart]:
        colours = chart_data.label_colours(results)
        lowest = [
            Series(sampler, self._lowest_losses(trials), colours[sampler], wide=sampler == RANDOM)
            for seed in self.settings.run_seeds for sampler, trials in self._searches(seed)
        ]  # fmt: skip
        name, share = self._most_important()
        declared = self.settings.space[name]
        choices = [str(choice) for choice in declared.get("choices", [])]
        losses = []
        for sampler in (RANDOM, TPE):
            for is_pruned in (False, True):
                trials = [trial for trial in self.trials if (trial.sampler, trial.is_pruned) == (sampler, is_pruned)]
                values = [(trial.values[name], trial.loss) for trial in trials if math.isfinite(trial.loss)]
                points = [(float(choices.index(str(value)) if choices else value), loss) for value, loss in values]
                losses.append(Series(sampler, points, colours[sampler], "rings" if is_pruned else "dots"))
        ticks = {float(i): choice for i, choice in enumerate(choices)} or None
        x = Axis(f"{name}, importance {share:.0%}; rings: pruned", log=bool(declared.get("log")), ticks=ticks)
        return [
            Chart("lowest inner loss so far", Axis("epochs of all trials; a line for each seed"), Axis(log=True), lowest),
            Chart("inner loss by trial", x, Axis(log=True), losses),
        ]

    def _lowest_losses(self, trials: Sequence[Trial]) -> list[tuple[float, float]]:
        """Return the epochs spent and the lowest loss until then, as steps."""
        spent, lowest = 0.0, math.inf
        points: list[tuple[float, float]] = []
        for trial in trials:
            spent += trial.cost * self.settings.epochs
            if points:
                points.append((spent, lowest))
            lowest = lowest if trial.is_pruned else min(lowest, trial.loss)
            if math.isfinite(lowest):
                points.append((spent, lowest))
        return points

    def _importances(self) -> dict[str, float]:
        """Return the share of each setting in the variance of the trials of random search, the largest first."""
        trials = [trial for trial in self.trials if trial.sampler == RANDOM]
        return importances(trials, self.settings.space, self.defaults)

    def _most_important(self) -> tuple[str, float]:
        """Return the most important setting among the trials of random search, and its share."""
        return next(iter(self._importances().items()))

    def tables(self) -> dict[str, str]:
        """Return trials.csv: a row for each trial, with its values and its result."""
        rows = []
        for trial in self.trials:
            last = trial.result.curve[-1]
            rows.append([
                trial.sampler, trial.seed, trial.number, trial.state, last.val_loss, last.val_accuracy, trial.steps,
                trial.cost * self.settings.epochs, *(trial.values[name] for name in self.settings.space),
            ])  # fmt: skip
        return {"trials.csv": summary.to_csv((*TRIALS, *self.settings.space), rows)}
