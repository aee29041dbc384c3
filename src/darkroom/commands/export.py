"""Write a trained model as a program that runs without Darkroom: ONNX, OpenVINO or torch.export, or as a page of a browser."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from darkroom.api import model_card, model_resolver
from darkroom.commands.param_types import MODEL
from darkroom.core import atomic, strict_json, user_paths
from darkroom.core.command_line import Choice, Command, json_option
from darkroom.core.errors import ParamsError, WorkspaceError
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.core import tables
    from darkroom.inference import classifier as classifiers
    from darkroom.inference import export, exported_classifier, quantized_classifier, web_page, web_runtime

INT8, HTML, AUTO = "int8", "html", "auto"
FORMATS = ("onnx", "openvino", "pt2", INT8, HTML)  # those of inference.export, which imports torch, one that register makes, a page


@click.command(cls=Command)
@click.option(
    "--model", "--version", "model", default="champion", type=MODEL,
    help="champion, challenger, a version number, a checkpoint folder like models/baseline, or models:/name/version",
)  # fmt: skip
@click.option(
    "--format", "formats", type=Choice(FORMATS), multiple=True, default=("onnx",), show_default="onnx",
    help="onnx, openvino, pt2 (torch.export), int8: the program of 8-bit integers of a registered version, "
    "or html: a page that runs the model in a browser, from one file; may be repeated",
)  # fmt: skip
@click.option(
    "--engine", type=Choice((AUTO, *model_resolver.ENGINES)), default=AUTO, show_default="auto: int8 where the version has it",
    help="of the page: float32, or the program of 8-bit integers, which is a quarter of the size",
)  # fmt: skip
@click.option(
    "--runtime", metavar="FILE|FOLDER",
    help="of the page: the npm package onnxruntime-web as a .tgz or an installed folder; default: downloaded once",
)  # fmt: skip
@click.option("--out", metavar="FOLDER", help="the new folder; default: exported/ and the model's name and version")
@json_option
def command(model: str, formats: tuple[str, ...], engine: str, runtime: str | None, out: str | None, as_json: bool) -> int:
    """Write a trained model as a program that runs without Darkroom.

    The folder has the program, a README with code that runs it, and model.json. Class names, preprocessing and temperature
    are in the program's own metadata. Each program is loaded again and compared with the model. `html` is one file to hand
    over: a page that classifies images in a browser, without a network.
    """
    formats = tuple(dict.fromkeys(formats))
    _check_page_options(formats, engine, runtime)
    export.check_installed(formats)
    folder = user_paths.expand(out, "--out", "a folder") if out else None
    if folder:
        _check_new(folder)  # before a model is downloaded
    classifier, info = _load(model, formats, engine)
    if not folder:
        folder = _default_folder(info)
        _check_new(folder)
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext(), atomic.new_folder(folder) as new:
        own = [name for name in formats if name not in (INT8, HTML)]
        plain = classifier.parent if isinstance(classifier, quantized_classifier.QuantizedClassifier) else classifier
        errors = _export(plain, new, own, info) if own else {}
        if INT8 in formats:
            assert isinstance(classifier, quantized_classifier.QuantizedClassifier)
            export.add_int8(classifier.folder, new)
        if HTML in formats:
            _add_page(plain if engine == "float32" else classifier, info, runtime, new)
    code = 0 if len(errors) == len(own) else 1  # a format that was left out has been named
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    if as_json:
        tables.print_json({"folder": str(folder), "model": info.description, "bytes": sizes, "errors": errors})
        return code
    click.echo(f"{info.description} is exported to {folder}{os.sep}")
    for file, size in sizes.items():
        error = f"  differs from the model by {errors[file]:.0e} of the largest logit" if file in errors else ""
        click.echo(f"  {file:<15} {size / 1e6:6.1f} MB{error}" if size >= 50_000 else f"  {file:<15} {size / 1e3:6.1f} kB{error}")
    if HTML in formats:
        click.echo(f"{folder / exported_classifier.PAGE} is the whole model: open it in a browser, or send it to somebody")
    if formats != (HTML,):
        click.echo(f"{folder / export.README} has code that runs {'them' if len(errors) > 1 else 'it'}")
    return code


def _check_page_options(formats: Sequence[str], engine: str, runtime: str | None) -> None:
    if HTML not in formats and (runtime or engine != AUTO):
        raise ParamsError(f"{'--runtime' if runtime else '--engine'} is of the format html", "add --format html, or omit it")


def _load(model: str, formats: Sequence[str], engine: str) -> tuple[classifiers.Classifier, classifiers.ModelInfo]:
    """Return the model by the engine that the formats need; a page takes int8 where there is no other wish and it exists."""
    if INT8 in formats or (HTML in formats and engine == INT8):
        return model_resolver.load(model, INT8)
    if HTML in formats and engine == AUTO:
        try:
            return model_resolver.load(model, INT8)
        except quantized_classifier.NoProgramError:
            remedy = "`register.quantize: int8` in params.yaml makes one"
            click.echo(
                f"the page has the float32 program, since the model has no smaller one of 8-bit integers: {remedy}", err=True
            )
    return model_resolver.load(model)


def _export(
    classifier: classifiers.Classifier, folder: Path, formats: Sequence[str], info: classifiers.ModelInfo
) -> dict[str, float]:
    images = export.noise_images(classifier.checkpoint.preprocessing.image_size)
    return export.export(classifier, images, folder, formats, info.description)


def _add_page(classifier: classifiers.Classifier, info: classifiers.ModelInfo, runtime: str | None, folder: Path) -> None:
    """Write the page of a model into the folder of an export, and name it in the README."""
    with atomic.scratch_folder(folder / "page") as scratch:
        if isinstance(classifier, quantized_classifier.QuantizedClassifier):
            program, precision = classifier.folder / exported_classifier.INT8_ONNX, INT8
            metadata = strict_json.loads((classifier.folder / exported_classifier.INT8_DESCRIPTION).read_text(encoding="utf-8"))
        else:
            program, precision = scratch / exported_classifier.ONNX, "float32"
            _export(classifier, scratch, ["onnx"], info)
            metadata = export.describe(classifier)
        metadata["about"] = info.description if info.version else info.model  # without the path of a folder
        web_page.check_size(program)
        files = web_runtime.load(user_paths.expand(runtime, "--runtime", "a .tgz or a folder") if runtime else None)
        card = model_card.describe(classifier, info, metadata, precision)
        web_page.write(program, metadata, card, files, folder / exported_classifier.PAGE)
    export.add_readme(folder, metadata)


def _default_folder(info: classifiers.ModelInfo) -> Path:
    """Return `exported/darkroom-3` for a version, `exported/finetune-vgg16` for a checkpoint's folder."""
    if info.version:
        return Path("exported", f"{info.name}-{info.version}")
    return Path("exported", Path(info.name).as_posix().removeprefix("models/").replace("/", "-"))


def _check_new(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise WorkspaceError(f"{folder} exists already", "name another folder with --out, or delete this one")
