"""What the commands of the lab share: the options of a picture and of a network, and the writing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from darkroom.api import model_resolver
from darkroom.commands.param_types import MODEL_OR_ARCHITECTURE
from darkroom.core.command_line import Command
from darkroom.core.errors import DarkroomError, ParamsError, nearest
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.config import params
    from darkroom.data import glyphs
    from darkroom.lab import drawing, networks
    from darkroom.models import factory, weight_files

FOLDER = Path("reports/lab")
KINDS = {".png": "picture", ".csv": "table", ".html": "page", ".scores.csv": "scores"}
ALIASES = ("champion", "challenger")
PHOTOGRAPHS = ("flower", "china")  # of scikit-learn's, 640 × 427 pixels, which is installed with Darkroom
Decorator = Callable[[Callable[..., Any]], Any]


def picture_command(name: str, *suffixes: str, **optional_suffixes: str) -> Decorator:
    """Return a decorator: a command with --out and --overwrite from a function that returns a Sheet.

    The sheet is written, with the files of these suffixes beside it. Before the work is done, ParamsError is
    raised if another file would be replaced. `optional_suffixes` are by the option that asks for the file.
    """

    def decorate(function: Callable[..., drawing.Sheet]) -> click.Command:
        @click.command(cls=Command)
        @functools.wraps(function)
        def wrapper(out: Path, overwrite: bool, **options: Any) -> None:
            requested = [suffix for option, suffix in optional_suffixes.items() if options[option]]
            drawing.check_writable(out, [*suffixes, *requested], overwrite)
            sheet = function(**options)
            drawing.save(out, drawing.draw(sheet), sheet.texts)
            for suffix in (".png", *sheet.texts):
                click.echo(f"{KINDS[suffix]:<8} {out.with_suffix(suffix)}")

        click.option("--overwrite", is_flag=True, help="replace a file that is not an earlier picture of the lab")(wrapper)
        out = click.option(
            "--out", type=click.Path(path_type=Path), metavar="FILE.png", help="the picture", default=FOLDER / f"{name}.png"
        )
        return out(wrapper)

    return decorate


def network_command(name: str, *suffixes: str) -> Decorator:
    """Return a decorator: a picture command that inspects MODEL; the function receives it as `inspected`."""
    return lambda function: picture_command(name, *suffixes)(model_argument(network_options(function)))


def network_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --weights, --size and --seed, which with `model` name the function's `inspected`."""

    @click.option(
        "--weights", type=click.Path(path_type=Path), metavar="FILE",
        help="for an architecture by name: torchvision's state_dict, .safetensors or .pth",
    )  # fmt: skip
    @click.option("--size", type=int, metavar="N", help="for an architecture by name: pixels a side", show_default="its own size")
    @click.option("--seed", type=int, metavar="N", help="seed of random weights", show_default="compute.seed of params.yaml, or 0")
    @functools.wraps(function)
    def wrapper(model: str, weights: Path | None, size: int | None, seed: int | None, **options: Any) -> Any:
        is_given = seed is not None
        if seed is None:
            seed = params.read().compute.seed if Path("params.yaml").is_file() else 0
        return function(inspected=replace(load_network(model, weights, size, seed), is_seed_given=is_given), **options)

    return wrapper


def _find_image(context: click.Context, parameter: click.Parameter, path: Path) -> Path:
    """Return the path of an image: of a file, or of the photograph of this name."""
    if str(path) in PHOTOGRAPHS and not path.exists():
        return glyphs.package_folder("sklearn") / "datasets" / "images" / f"{path}.jpg"
    return path


model_argument = click.argument("model", type=MODEL_OR_ARCHITECTURE, metavar="MODEL")
image_argument = click.argument("image", type=click.Path(path_type=Path), metavar="IMAGE", callback=_find_image)
before_option = click.option(
    "--before", is_flag=True, help="also show the weights that it began with: of its run's seed, or pretrained"
)


def load_network(model: str, weights: Path | None, size: int | None, seed: int) -> networks.InspectedNetwork:
    """Return a trained model or an architecture by name. Raises a DarkroomError if there is none."""
    architectures = factory.names()
    if model in architectures and not Path(model, "model.json").is_file():
        return networks.build_with_weights(model, weights, size, seed) if weights else networks.build(model, size, seed)
    if weights or size is not None:
        option = "--weights" if weights else "--size"
        raise ParamsError(f"{option} is for an architecture by name; {model} has its own", f"leave {option} out")
    try:
        classifier, info = model_resolver.load(model)
    except DarkroomError as error:
        hint = "" if model in ALIASES else nearest(model, architectures)
        if hint:
            raise type(error)(f"{error.problem}{hint}", f"{error.remedy}; or name an architecture", error.retryable) from error
        raise
    folders = [path for path in (Path(model), Path("models", classifier.checkpoint.name)) if (path / "model.json").is_file()]
    own = next((path for path in folders if weight_files.checkpoint_digest(path) == info.checkpoint_sha256), None)
    return networks.from_classifier(classifier, info.description, seed, own)
