"""Label images on a page: doubtful labels, mistakes, conflicts, and the images of an inbox that teach most."""

from __future__ import annotations

import getpass
import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from darkroom.api import model_resolver
from darkroom.commands.param_types import MODEL
from darkroom.config import dvc_graph, params
from darkroom.core import user_paths
from darkroom.core.command_line import Command, json_option
from darkroom.core.errors import ParamsError, WorkspaceError, printable
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.core import atomic, tables
    from darkroom.data import class_names, label_fixes, manifest, manifest_index
    from darkroom.evaluation import diagnostics_file, metrics_io
    from darkroom.labelling import arrivals, inbox, label_studio, queues, reordering, server
    from darkroom.labelling import growth as growths
    from darkroom.labelling import meter as meters
    from darkroom.labelling import pictures as picture_files
    from darkroom.labelling import session as sessions

LOG = Path("data/label_decisions.jsonl")
REPORTS = Path("reports")
NEXT = "`dvc repro` retrains; the gate decides whether the new model becomes the champion"
MOST_NAMED = 5  # images that are named, of those that are left out


@click.command(cls=Command)
@click.option("--name", metavar="NAME", help="who labels; stored with each decision", show_default="your user name")
@click.option("--inbox", "folder", metavar="DIR", help="label new images, which are in no source yet, too")
@click.option(
    "--model", type=MODEL, metavar="MODEL", help="which model looks at the inbox",
    show_default="the champion, or the best of the last evaluation",
)  # fmt: skip
@click.option("--images", type=click.IntRange(min=1), default=200, metavar="N", help="how many images of the inbox are proposed")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="the port on 127.0.0.1", show_default="one that is free")
@click.option("--add", is_flag=True, help="copy the labelled images of the inbox into the class folders of the source, and end")
@click.option("--export-tasks", metavar="FILE", help="write the queues as tasks of Label Studio, and end")
@click.option("--import", "imported", metavar="FILE", help="take over labels of a JSON export of Label Studio, and end")
@json_option
def command(
    name: str | None, folder: str | None, model: str | None, images: int, port: int, add: bool, export_tasks: str | None,
    imported: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Label images on a page: one key gives a class.

    Shown are labels that `diagnose` doubts, misclassified test images, pictures with several labels, and with --inbox new images:
    uncertain ones that stand for many. A decision is on the disk at once: as a line of data/label_fixes.csv, or of
    DIR/labels.csv, and in data/label_decisions.jsonl. No image is moved. The page is on 127.0.0.1 alone.

    \b
    darkroom label --name Ada
    darkroom label --inbox data/inbox          then the same with --add, and `dvc repro`
    """
    modes = [flag for flag, chosen in (("--add", add), ("--export-tasks", export_tasks), ("--import", imported)) if chosen]
    if len(modes) > 1:
        raise click.UsageError(f"{modes[0]} and {modes[1]} exclude each other")
    if add and folder is None:
        raise click.UsageError("--add goes with --inbox DIR")
    if as_json and not modes:
        raise click.UsageError("--json goes with --add, --export-tasks or --import")
    place = Workplace.open()
    arrived = None if folder is None else user_paths.expand(folder, "--inbox", "a folder of new images")
    if arrived is not None and not arrived.is_dir():
        raise WorkspaceError(f"there is no folder {printable(str(arrived))}", "name the folder in which new images are")
    if arrived is not None:  # one name, however it was typed
        inside = os.path.relpath(arrived.resolve())
        arrived = arrived.resolve() if inside.startswith("..") else Path(inside)
    who = _who(name)
    if add and arrived is not None:
        return _add(place, arrived, as_json)
    if imported is not None:
        return _import(place, Path(imported), arrived, who, as_json)
    shown = place.in_source(with_decided=export_tasks is not None)
    incoming = None if arrived is None else _look(arrived, model)
    if incoming is not None:
        shown.append(arrivals.queue(incoming, inbox.read(incoming.folder), images, with_labelled=export_tasks is not None))
    session = place.session(shown, who)
    if export_tasks is not None:
        return _export(session, Path(export_tasks), as_json)
    _serve(place, session, incoming, port)
    return 0


class Workplace:
    """The project: the images of its last ingest, and where corrections go."""

    def __init__(self, rows: Sequence[manifest.Row], source: Path, fixes: Path, ingested: Path) -> None:
        self.rows, self.source, self.fixes, self.ingested = rows, source, fixes, ingested
        self.index = manifest_index.ManifestIndex(rows, source)

    @classmethod
    def open(cls) -> Workplace:
        options = dvc_graph.command_options("ingest", None)
        path = Path(options["out"]) / "manifest.parquet"
        if not path.exists():
            raise WorkspaceError(f"there is no {path}, which lists the images", "`dvc repro ingest`, then run this command again")
        return cls(manifest.read(path), Path(params.read().ingest.source), Path(options["fixes"]), path.parent)

    def in_source(self, with_decided: bool = False) -> list[queues.Queue]:
        """Return what there is to label in the source, without what people have decided before, or with it."""
        fixes = label_fixes.read(self.fixes)
        all_queues = [
            queues.doubtful(REPORTS / "label_issues.csv", self.index, fixes),
            queues.mistakes(REPORTS / diagnostics_file.DIAGNOSTICS, self.index, fixes),
            queues.conflicts(self.rows, self.index, fixes),
        ]
        return all_queues if with_decided else [sessions.without_decided(queue, LOG) for queue in all_queues]

    def session(self, shown: Sequence[queues.Queue], name: str) -> sessions.Session:
        return sessions.Session(shown, sorted(self.index.classes), self.fixes, LOG, name)


def _who(name: str | None) -> str:
    """Return the name that decisions have."""
    if name is None:
        try:
            name = getpass.getuser()
        except (OSError, KeyError) as error:  # a user without a name, as in a container
            raise ParamsError("your user has no name here", "give yours: --name Ada") from error
    name = class_names.normalise(name)
    if not name or not class_names.is_showable(name):
        raise ParamsError("--name is empty, or cannot be shown", "give your name: --name Ada")
    return name


def _look(folder: Path, model: str | None) -> arrivals.Arrivals:
    """Return the images of an inbox as the model of that name sees them."""
    labels = inbox.read(folder)
    classifier, info = _load(model)
    incoming = arrivals.measure(classifier, folder)
    if incoming.unreadable:
        name, reason = next(iter(incoming.unreadable.items()))
        click.echo(printable(f"{len(incoming.unreadable)} of the inbox cannot be read; the first is {name}: {reason}"), err=True)
    click.echo(
        printable(f"{len(incoming.paths)} images of {folder}, {len(labels)} labelled before; by {info.description}"), err=True
    )
    return incoming


def _load(model: str | None) -> Any:
    """Return the model of that name; without one the champion, or else the best model of the last evaluation."""
    if model is not None:
        return model_resolver.load_on_device(model)
    try:
        return model_resolver.load_on_device("champion")
    except model_resolver.NoChampionError:
        path = REPORTS / metrics_io.METRICS
        if not path.exists():
            raise
        return model_resolver.load_on_device(f"models/{metrics_io.read(path, metrics_io.Metrics).best}")


def _serve(place: Workplace, session: sessions.Session, incoming: arrivals.Arrivals | None, port: int) -> None:
    folder = None if incoming is None else incoming.folder
    for queue in session.queues:
        click.echo(f"{len(queue.items):>6} {queue.title.lower()}")
    token, listener = server.new_token(), server.bind(port)
    port = listener.getsockname()[1]
    notes = {
        "fixes": str(place.fixes), "log": str(LOG), "quarantined": queues.quarantined(place.rows), "inbox": str(folder or ""),
        "add": _add_command(folder), "table": str(folder / inbox.TABLE) if folder else "",
    }  # fmt: skip
    images = picture_files.Pictures(place.source)
    embedder = _embedder()
    reorder = None if incoming is None else reordering.Reordering(session, incoming).run
    meter = meters.Meter(lambda check: _growth(place, embedder, folder, check), reorder=reorder) if embedder else None
    try:
        application = server.app(session, images, token, port, notes | {"measures": embedder}, meter)
        click.echo(f"http://{server.HOST}:{port}/{token}/\nOpen this address; whoever has it can label. Ctrl+C ends the page.")
        server.serve(application, listener)
    except KeyboardInterrupt:  # uvicorn has ended, and hands it on
        pass
    finally:
        if meter:
            meter.close()
        images.close()
        listener.close()
    state = session.state()
    click.echo(f"\n{state['own']} labels by {printable(session.name)}; {state['left']} images left")
    if folder:
        click.echo(printable(f"`{notes['add']}` copies the labelled images into the source"))
    click.echo(NEXT)


def _add_command(folder: Path | None) -> str:
    return f"darkroom label --inbox {shlex.quote(str(folder))} --add"


def _embedder() -> str:
    """Return the model whose frozen backbone is best on validation, empty without any: a fine-tuned one has seen the labels."""
    path = REPORTS / metrics_io.METRICS
    models = metrics_io.read(path, metrics_io.Metrics).models if path.exists() else {}
    frozen = {name: model.val_log_loss for name, model in models.items() if name.startswith("transfer/")}
    return min(frozen, key=lambda name: (frozen[name], name), default="")


def _growth(
    place: Workplace, embedder: str, folder: Path | None, check: Callable[[], None]
) -> tuple[growths.Growth, meters.Labels]:
    """Return what measures accuracy, and a function of the labels as they are."""
    classifier, _ = model_resolver.load_on_device(f"models/{embedder}")
    check()
    source = growths.SourceImages.read(place.ingested, classifier.checkpoint.preprocessing.image_size)

    def labels() -> tuple[list[str], dict[Path, str]]:
        arrived = {} if folder is None else inbox.read(folder)
        return source.labels(place.fixes), {Path(str(folder), path): label for path, label in arrived.items()}

    return growths.Growth(classifier, source, check), labels


def _add(place: Workplace, folder: Path, as_json: bool) -> int:
    """Copy the labelled images of an inbox into the source."""
    labels = inbox.read(folder)
    if not labels:
        raise WorkspaceError(f"no image of {folder} has a label", f"`darkroom label --inbox {folder}` asks for them")
    done = inbox.add(folder, labels, place.source, place.rows)
    if as_json:
        tables.print_json(asdict(done))
    else:
        click.echo(f"{len(done.copied)} images copied into {place.source}, {len(done.present)} were there already")
        _name_left_out(done.left_out)
        click.echo(NEXT)
    return int(bool(done.left_out))


def _export(session: sessions.Session, path: Path, as_json: bool) -> int:
    items = list(session.items.values())
    labels = {item.id: item.label for item in items if item.folder != queues.SOURCE and item.label} | session.label_of()
    atomic.write_json(path, label_studio.tasks(items, labels))
    if as_json:
        tables.print_json({"path": str(path), "tasks": len(items), "config": label_studio.config(session.classes)})
    else:
        click.echo(f"{len(items)} tasks in {path}; the labelling interface of the project:\n{label_studio.config(session.classes)}")
    return 0


def _import(place: Workplace, path: Path, folder: Path | None, name: str, as_json: bool) -> int:
    """Take over the labels of an export; those of the inbox where the source has no such image."""
    annotations = label_studio.read(path)
    rows = {row.path: row for row in place.rows if row.reason in manifest_index.FIXABLE and row.source_label}
    arrived = [] if folder is None else [file.relative_to(folder).as_posix() for file in arrivals.image_files.expand([str(folder)])]
    paths_by_folder = {queues.SOURCE: label_studio.by_name(rows), str(folder): label_studio.by_name(arrived)}
    fixes = label_fixes.read(place.fixes)
    items: list[tuple[queues.Item, str]] = []
    left_out: dict[str, str] = {}
    for entry in annotations:
        problem = entry.problem
        for where, names in paths_by_folder.items() if not problem else ():
            match, problem = label_studio.match(entry.image, names)
            if match:
                row = rows.get(match) if where == queues.SOURCE else None
                chosen = (row,) if row else ()
                label = label_fixes.label_of(row, fixes) if row else ""
                split = row.split if row else ""
                items.append((queues.Item(match, where, label, split, "", "", match, chosen), entry.label))
                break
        if problem:
            left_out[entry.image] = problem
    session = place.session([queues.Queue("import", "Import", str(path), [item for item, _ in items])], name)
    changed = 0
    for item, label in items:
        try:
            session.decide("import", item.id, label)
            changed += label != item.label
        except sessions.SourceError as error:
            left_out[item.path] = error.problem
    imported_count = len(session.decisions)
    if as_json:
        tables.print_json({"taken": imported_count, "changed": changed, "left_out": left_out})
    else:
        click.echo(f"{imported_count} labels taken over from {path}, {changed} of them new")
        _name_left_out(left_out)
        if any(item.folder != queues.SOURCE for item, _ in items):
            click.echo(printable(f"`{_add_command(folder)}` copies the labelled images into the source"))
        click.echo(NEXT if changed else f"{place.fixes} is unchanged")
    return int(bool(left_out))


def _name_left_out(left_out: dict[str, str]) -> None:
    for image, reason in list(left_out.items())[:MOST_NAMED]:
        click.echo(printable(f"left out: {image}: {reason}"), err=True)
    if len(left_out) > MOST_NAMED:
        click.echo(f"left out: {len(left_out) - MOST_NAMED} more", err=True)
