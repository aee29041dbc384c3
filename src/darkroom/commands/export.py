"""Write a trained model as a program that runs without Darkroom: ONNX, OpenVINO or torch.export."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import click

from darkroom.api import model_resolver
from darkroom.commands.param_types import MODEL
from darkroom.core import atomic, user_paths
from darkroom.core.command_line import Choice, Command, json_option
from darkroom.core.errors import WorkspaceError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.core import tables
    from darkroom.inference import classifier as classifiers
    from darkroom.inference import export, quantized_classifier

INT8 = "int8"
FORMATS = ("onnx", "openvino", "pt2", INT8)  # those of inference.export, which imports torch, and one that register makes


@click.command(cls=Command)
@click.option(
    "--model", "--version", "model", default="champion", type=MODEL,
    help="champion, challenger, a version number, a checkpoint folder like models/baseline, or models:/name/version",
)  # fmt: skip
@click.option(
    "--format", "formats", type=Choice(FORMATS), multiple=True, default=("onnx",), show_default="onnx",
    help="onnx, openvino, pt2 (torch.export), or int8: the program of 8-bit integers of a registered version; may be repeated",
)  # fmt: skip
@click.option("--out", metavar="FOLDER", help="the new folder; default: exported/ and the model's name and version")
@json_option
def command(model: str, formats: tuple[str, ...], out: str | None, as_json: bool) -> int:
    """Write a trained model as a program that runs without Darkroom.

    The folder has the program, a README with code that runs it, and model.json. Class names, preprocessing and temperature
    are in the program's own metadata. Each program is loaded again and compared with the model.
    """
    formats = tuple(dict.fromkeys(formats))
    export.check_installed(formats)
    folder = user_paths.expand(out, "--out", "a folder") if out else None
    if folder:
        _check_new(folder)  # before a model is downloaded
    classifier, info = model_resolver.load(model, INT8 if INT8 in formats else "float32")
    if not folder:
        folder = _default_folder(info)
        _check_new(folder)
    images = export.noise_images(classifier.checkpoint.preprocessing.image_size)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(), atomic.new_folder(folder) as new:
        own = [name for name in formats if name != INT8]
        if isinstance(classifier, quantized_classifier.QuantizedClassifier):
            errors = export.export(classifier.parent, images, new, own, info.description) if own else {}
            export.add_int8(classifier.folder, new)
        else:
            errors = export.export(classifier, images, new, own, info.description)
    code = 0 if len(errors) == len(own) else 1  # a format that was left out has been named
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    if as_json:
        tables.print_json({"folder": str(folder), "model": info.description, "bytes": sizes, "errors": errors})
        return code
    click.echo(f"{info.description} is exported to {folder}{os.sep}")
    for file, size in sizes.items():
        error = f"  differs from the model by {errors[file]:.0e} of the largest logit" if file in errors else ""
        click.echo(f"  {file:<15} {size / 1e6:6.1f} MB{error}" if size >= 50_000 else f"  {file:<15} {size / 1e3:6.1f} kB{error}")
    click.echo(f"{folder / export.README} has code that runs {'them' if len(errors) > 1 else 'it'}")
    return code


def _default_folder(info: classifiers.ModelInfo) -> Path:
    """Return `exported/darkroom-3` for a version, `exported/finetune-vgg16` for a checkpoint's folder."""
    if info.version:
        return Path("exported", f"{info.name}-{info.version}")
    return Path("exported", Path(info.name).as_posix().removeprefix("models/").replace("/", "-"))


def _check_new(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise WorkspaceError(f"{folder} exists already", "name another folder with --out, or delete this one")
