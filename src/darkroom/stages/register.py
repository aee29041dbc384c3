"""Make the model that validation chose a version of the registered model, and the champion where every check is passed."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.config.params import Params
from darkroom.core import atomic
from darkroom.stages.context import session

if TYPE_CHECKING:
    import numpy as np

    from darkroom.evaluation.gate import Candidate, Verdict
    from darkroom.tracking.registry import Version

Images = dict[str, list[dict[str, str]]]  # of every split, as `predictions.images` returns them
SCHEMA = 2
OTHER = "another class"  # what a champion says that was trained on classes that are no longer there
COMPARED = 8  # validation images on which what is registered is compared with the checkpoint
TRAINED, CHOSEN = "trained-on.txt", "chosen-on.txt"  # pixel hashes of a version's train and val


def run(ingested: Path, reports: Path, models: Path, out: Path) -> None:
    with session("register", ["register"], [reports / "metrics.json"]) as (settings, record):
        from darkroom.evaluation import metrics_io, predictions
        from darkroom.models import digests
        from darkroom.tracking import records, registry

        evaluated = metrics_io.read(reports / metrics_io.METRICS)
        best = evaluated["best"]
        figures = evaluated["models"][best]
        sha256 = digests.checkpoint(models / best)
        name, promote = settings.register_.name, settings.register_.promote
        decision: dict[str, Any] = {
            "schema": SCHEMA, "model": best, "checkpoint_sha256": sha256, "accuracy": figures["accuracy"],
            "val_accuracy": figures["val_accuracy"], "registered": None, "promoted": False, "verdict": None,
        }  # fmt: skip
        if records.is_off():
            print(f"register: tracking is off, {best} is not registered")
        else:
            images = predictions.images(ingested / "manifest.parquet")
            tags = {
                registry.MODEL: best,
                registry.DATA: _trained_on(settings, ingested, len(images["train"])),
                "val_accuracy": f"{figures['val_accuracy']:.4f}",
                "test_accuracy": f"{figures['accuracy']:.4f}",
                "test_macro_f1": f"{figures['macro_f1']:.4f}",
            }
            text = f"{best}: {figures['accuracy']:.4f} of the test images right, {figures['val_accuracy']:.4f} of validation"
            champion = registry.champion(name)
            with tempfile.TemporaryDirectory(dir=_place()) as scratch:
                beside = Path(scratch)
                _keep(beside / registry.EVALUATION, best, images, reports)
                if sha256 not in {item.sha256 for item in registry.versions(name)}:
                    _package(models / best, ingested, beside)
                made = registry.register(name, models / best, beside, sha256, tags, text)
            print(
                f"register: {best} is {'the new' if made.created else 'the known'} version {made.version} of {name}, "
                f"alias {registry.CHALLENGER}"
            )
            aliases = [registry.CHALLENGER]
            if champion and champion.version == made.version:
                print(f"register: version {made.version} is the champion already")
                aliases.append(registry.CHAMPION)
            else:
                verdict = _verdict(best, models / best, champion, settings, images, ingested, reports)
                decision["verdict"] = verdict.as_dict()
                for check in verdict.checks:
                    print(f"  {'passed' if check.passed else 'VETO  '}  {check.words}")
                told = {registry.VERDICT: "passed" if verdict.passed else "vetoed", "darkroom.promotion": verdict.words[:4900]}
                registry.describe(name, made.version, told, f"{text}.\n\n{verdict.words}")
                record.set_tags(told)
                if verdict.passed and promote == "gate":
                    registry.promote(name, made.version, verdict.words)
                    decision["promoted"] = True
                    aliases.append(registry.CHAMPION)
                print(f"register: {_outcome(made, champion, verdict, promote)}")
            decision["registered"] = {"name": name, "version": made.version, "aliases": aliases}
            record.set_tags({"darkroom.model_version": f"{name}/{made.version}", "darkroom.checkpoint_sha256": sha256})
        atomic.write_json(out, decision)


def _outcome(made: Version, champion: Version | None, verdict: Verdict, promote: str) -> str:
    """Say what became of the challenger."""
    before = f"version {champion.version}, {champion.model}" if champion else ""
    if verdict.passed and promote == "gate":
        return f"version {made.version} is the champion" + (f", in place of {before}" if before else ", the first one")
    stays = f"the champion stays {before}" if before else "there is no champion"
    if promote == "never":
        return f"{stays}, since register.promote is never"
    passed = "every check is passed" if verdict.passed else "not every check is passed"
    return f"{passed}, {stays}; `darkroom promote {made.version}` makes it the champion"


def _trained_on(settings: Params, ingested: Path, count: int) -> str:
    """Say what the models were trained on: how many images of which source, and the digest of the manifest."""
    digest = hashlib.md5((ingested / "manifest.parquet").read_bytes()).hexdigest()  # as in dvc.lock
    return f"{count:,} images of {settings.ingest.source} (manifest {digest[:8]})"


def _place() -> Path:
    place = Path(".darkroom/scratch")
    place.mkdir(parents=True, exist_ok=True)
    return place


def _keep(folder: Path, model: str, images: Images, reports: Path) -> None:
    """Write what a later challenger is compared with: what this model said, and which images it was trained and chosen on."""
    from darkroom.evaluation import predictions

    folder.mkdir()
    predictions.extract(reports / "predictions.parquet", model, folder / "predictions.parquet")
    for file, split in ((TRAINED, "train"), (CHOSEN, "val")):
        folder.joinpath(file).write_text("".join(f"{row['pixel_hash']}\n" for row in images[split]))


def _package(checkpoint: Path, ingested: Path, beside: Path) -> None:
    """Make the programs that answer where the model is served, and a few image files with what the checkpoint says of them.

    What it makes of held-out images is kept too: `darkroom monitor` compares those that arrive with it.
    """
    import numpy as np

    from darkroom.data import arrays
    from darkroom.inference import export
    from darkroom.inference.classifier import Classifier
    from darkroom.inference.held_out import as_file
    from darkroom.monitoring import reference
    from darkroom.tracking import registry

    held_out = [arrays.load_split(ingested / split)[0] for split in ("val", "test")]
    images = np.ascontiguousarray(held_out[0][:COMPARED])
    classifier = Classifier.load(checkpoint)
    reference.write(beside / registry.EVALUATION / registry.REFERENCE, reference.make(classifier.embed, held_out))
    apart = export.export(classifier, np.concatenate([images, images])[:COMPARED], beside / registry.EXPORTED)
    check = beside / registry.CHECK
    check.mkdir()
    files = [as_file(pixels) for pixels in images]
    for number, content in enumerate(files):
        (check / f"{number}.png").write_bytes(content)
    np.save(check / "expected.npy", np.array([answer.probabilities for answer in classifier.predict_files(files)]))
    programs = ", ".join(f"{name} ({found:.0e} from the checkpoint)" for name, found in apart.items())
    print(f"register: {programs}")


def _verdict(
    name: str, checkpoint: Path, champion: Version | None, settings: Params, images: Images, ingested: Path, reports: Path
) -> Verdict:
    """Compare a model with the champion on the images that are held out now."""
    from darkroom.evaluation import gate, leaderboard, predictions
    from darkroom.tracking import registry

    classes = tuple(json.loads((ingested / "classes.json").read_text(encoding="utf-8")))
    said = predictions.read(reports / "predictions.parquet", name)
    costs = {row["model"]: float(row["ms_per_image"]) for row in leaderboard.read(reports / "leaderboard.csv")}
    megabytes = (checkpoint / "model.safetensors").stat().st_size / 1e6
    val, test = (_aligned(said[split].probabilities, classes, classes) for split in predictions.SPLITS)
    challenger = gate.Candidate(name, val, test, costs[name], megabytes)
    folder = registry.fetch(settings.register_.name, champion.version) if champion else None
    trained, chosen = (_hashes(folder, file) for file in (TRAINED, CHOSEN))
    truth = gate.Truth(
        classes=(*classes, OTHER),
        val=_numbers(said["val"].labels, classes),
        test=_numbers(said["test"].labels, classes),
        fresh_val=_fresh(said["val"].images, trained),
        fresh_test=_fresh(said["test"].images, trained | chosen),
    )
    old = None if champion is None or folder is None else _champion(champion, folder, settings, classes, images, ingested)
    return gate.judge(challenger, old, truth, settings.register_)


def _champion(
    champion: Version, folder: Path, settings: Params, classes: tuple[str, ...], images: Images, ingested: Path
) -> Candidate:
    """Return the champion with what it says of the images of both splits: as it is remembered, or else it is asked again."""
    from darkroom.evaluation import gate, predictions
    from darkroom.tracking import registry

    own = tuple(json.loads((folder / "checkpoint" / "model.json").read_text(encoding="utf-8"))["classes"])
    given: dict[str, np.ndarray] = {}
    table = folder / registry.EVALUATION / "predictions.parquet"
    if table.exists():
        said = predictions.read(table, champion.model)
        hashes = {split: [row["pixel_hash"] for row in images[split]] for split in predictions.SPLITS}
        remembered = {split: said[split].of(hashes[split]) for split in predictions.SPLITS}
        given = {split: found for split, found in remembered.items() if found is not None}
    if len(given) < len(predictions.SPLITS):
        from darkroom.inference import held_out
        from darkroom.inference.classifier import Classifier

        print(f"register: the champion, version {champion.version}, has not seen all of these images: it is asked again")
        paths = {split: [row["path"] for row in images[split]] for split in predictions.SPLITS}
        given = held_out.predict_splits(Classifier.load(folder / "checkpoint"), ingested, settings.ingest, paths)
    val, test = (_aligned(given[split], own, classes) for split in predictions.SPLITS)
    return gate.Candidate(f"version {champion.version}, {champion.model}", val, test, 0.0, 0.0)


def _aligned(probabilities: np.ndarray, own: tuple[str, ...], classes: tuple[str, ...]) -> np.ndarray:
    """Return (N, C + 1) probabilities of `classes`, and in the last column the largest one of a class that is not among them."""
    import numpy as np

    made = np.zeros((len(probabilities), len(classes) + 1))
    for column, name in enumerate(own):
        if name in classes:
            made[:, classes.index(name)] = probabilities[:, column]
        else:
            made[:, -1] = np.maximum(made[:, -1], probabilities[:, column])
    return made


def _numbers(labels: list[str], classes: tuple[str, ...]) -> np.ndarray:
    import numpy as np

    where = {name: number for number, name in enumerate(classes)}
    return np.array([where[label] for label in labels], np.int64)


def _hashes(folder: Path | None, file: str) -> set[str]:
    from darkroom.tracking import registry

    path = folder / registry.EVALUATION / file if folder else None
    return set(path.read_text().split()) if path and path.exists() else set()


def _fresh(images: list[str], known: set[str]) -> np.ndarray:
    import numpy as np

    return np.array([image not in known for image in images], bool)
