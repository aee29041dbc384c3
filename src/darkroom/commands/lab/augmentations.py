"""Show the transforms of an augmentation policy on an image."""

from __future__ import annotations

from pathlib import Path

import click

from darkroom.commands.lab import image_io
from darkroom.commands.lab.options import image_argument, picture_command
from darkroom.commands.param_types import POLICY
from darkroom.core.errors import ParamsError, nearest
from darkroom.core.lazy import lazy_imports

with lazy_imports():
    from darkroom.augmentation import policies, views
    from darkroom.config import params
    from darkroom.lab import augmentation_strength, drawing

STEPS, SIDE = 7, 128  # pictures of each transform, and pixels a side of each, about


@picture_command("augmentations")
@image_argument
@click.option(
    "--policy", "policy_name", type=POLICY, metavar="NAME", show_default="that of params.yaml", help="an augmentation policy"
)
@click.option(
    "--size", "requested_size", type=click.IntRange(8, 1024), metavar="N", show_default="ingest.image_size of params.yaml",
    help="pixels a side of the image",
)  # fmt: skip
@click.option("--views", "count", type=click.IntRange(min=0), default=14, metavar="N", help="number of whole views")
@click.option("--seed", type=int, default=0, metavar="N", help="seed of the draws")
def command(image: Path, policy_name: str | None, requested_size: int | None, count: int, seed: int) -> drawing.Sheet:
    """Show the transforms of an augmentation policy on an image, one by one from weak to strong, and whole
    views."""
    policy, size, resize, background = "standard", 160, "crop", (0, 0, 0)
    if Path("params.yaml").is_file():
        settings = params.read()
        policy, size = settings.augment.policy, settings.ingest.image_size
        resize, background = settings.ingest.resize, settings.ingest.background
    policy, size = policy_name or policy, requested_size or size
    if policy not in policies.POLICIES:
        problem = f'there is no policy "{policy}"{nearest(policy, policies.POLICIES)}'
        raise ParamsError(problem, f"name one of {', '.join(policies.POLICIES)}")
    pixels = image_io.decode_file(image, size, resize, background)[0]
    rows = [drawing.Row([drawing.Tile(drawing.fit(pixels, SIDE), f"{image.name}, {size}×{size}")])]
    for transform in policies.POLICIES[policy](size):
        ranges = augmentation_strength.describe(transform)  # before its probability becomes 1
        steps = augmentation_strength.ladder(pixels, augmentation_strength.drawer(transform, pixels, seed), STEPS)
        if steps[0][1] == steps[-1][1]:  # a transform without strength, such as a mirror
            steps = steps[:1]
        tiles = [drawing.Tile(drawing.fit(item, SIDE), f"changes by {change:.0f}") for item, change in steps]
        rows.append(drawing.Row(tiles, type(transform).__name__, ranges))
    generated = views.ViewGenerator(policy, size, seed).views(pixels, range(count))
    tiles = [drawing.Tile(drawing.fit(view, SIDE), f"view {i}") for i, view in enumerate(generated)]
    rows.append(drawing.Row(tiles, "Whole views", "all transforms in a row, as in training"))
    summary = (policies.POLICIES[policy].__doc__ or "").split("\n")[0]
    note = f"{summary} Each transform alone, always applied, from the weakest to the strongest of 64 draws of its ranges. "
    note += "The number is the root mean square of the difference from the image, of 255."
    return drawing.Sheet(f"The policy {policy} on {image.name}", rows, note)
