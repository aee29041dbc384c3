"""What an augmentation policy makes of an image: its transforms one by one, from weak to strong, and whole views."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.commands.lab import image_io
from darkroom.core.errors import ParamsError, nearest

if TYPE_CHECKING:
    import numpy as np

STEPS, SIDE = 7, 128  # pictures of each transform, pixels a side of each, about


def main(arguments: list[str]) -> None:
    parser = image_io.parser("augmentations", __doc__)
    parser.add_argument("image", type=Path, metavar="IMAGE")
    parser.add_argument("--policy", metavar="NAME", help="none, light, standard, strong, characters; default: that of params.yaml")
    parser.add_argument("--size", type=int, help="pixels a side that the policy sees; default: ingest.image_size of params.yaml")
    parser.add_argument("--views", type=int, default=14, help="whole views (14)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    image_io.check(given)
    from darkroom.augmentation.policies import POLICIES
    from darkroom.augmentation.views import ViewGenerator
    from darkroom.lab import augmentation_strength, drawing

    policy, size, resize, background = _standard(given)
    if policy not in POLICIES:
        raise ParamsError(f'there is no policy "{policy}"{nearest(policy, POLICIES)}', f"name one of {', '.join(POLICIES)}")
    if not 8 <= size <= 1024:
        raise ParamsError(f"--size {size} is no size that a policy works at", "give 8 to 1024")
    image = image_io.decoded(given.image, size, resize, background).pixels
    about = (POLICIES[policy].__doc__ or "").split("\n")[0]
    rows = [drawing.Row([drawing.Tile(drawing.fitted(image, SIDE), f"{given.image.name}, {size}×{size}")])]
    for transform in POLICIES[policy](size):
        ranges = said(transform)  # before its probability becomes one
        steps = augmentation_strength.ladder(image, drawer(transform, image, given.seed), STEPS)
        if steps[0][1] == steps[-1][1]:  # a transform without strength, such as a mirror
            steps = steps[:1]
        tiles = [drawing.Tile(drawing.fitted(item, SIDE), f"changes by {far:.0f}") for item, far in steps]
        rows.append(drawing.Row(tiles, type(transform).__name__, ranges))
    views = ViewGenerator(policy, size, given.seed).views(image, range(max(0, given.views)))
    tiles = [drawing.Tile(drawing.fitted(view, SIDE), f"view {i}") for i, view in enumerate(views)]
    rows.append(drawing.Row(tiles, "Whole views", "all of it in a row, as training sees it"))
    note = f"{about} Each transform alone, from the weakest to the strongest of 64 draws of its ranges, always applied. "
    note += "The number is the root mean square of the difference from the image, of 255."
    image_io.write(given, drawing.sheet(f"What the policy {policy} makes of {given.image.name}", rows, note))


def _standard(given: Any) -> tuple[str, int, str, tuple[int, int, int]]:
    """Return policy, size, resize and background, from params.yaml where it is there and they are not given."""
    if not Path("params.yaml").is_file():
        return given.policy or "standard", given.size or 160, "crop", (0, 0, 0)
    from darkroom.config import params

    values = params.read()
    ingest = values.ingest
    return given.policy or values.augment.policy, given.size or ingest.image_size, ingest.resize, ingest.background


def drawer(transform: Any, image: np.ndarray, seed: int) -> Any:
    """Return what gives the n-th draw of a transform alone, with certainty."""
    from darkroom.augmentation.lean import albumentations

    compose = albumentations.Compose
    transform.p = 1.0

    def draw(number: int) -> np.ndarray:
        pipeline = compose([transform], seed=seed * 1000 + number)
        return pipeline(image=image)["image"]

    return draw


def said(transform: Any) -> str:
    """Return a transform's ranges in words, and its probability; of a choice, what there is to choose from."""
    inner = None if hasattr(transform, "get_transform_init_args") else getattr(transform, "transforms", None)
    shown = f"probability {transform.p:g}"
    if inner:
        return f"{shown}, one of {', '.join(f'{type(item).__name__} ({_ranges(item)})' for item in inner)}"
    ranges = _ranges(transform)
    return f"{shown}, {ranges}" if ranges else shown


def _ranges(transform: Any) -> str:
    """Return the arguments that are ranges with two ends."""
    found = []
    for name, value in transform.get_transform_init_args().items():
        for key, ends in value.items() if isinstance(value, dict) else [("", value)]:
            numbers = isinstance(ends, (tuple, list)) and len(ends) == 2 and all(isinstance(end, (int, float)) for end in ends)
            if numbers and ends[0] != ends[1]:
                found.append(f"{f'{name} {key}'.strip()} {ends[0]:g} to {ends[1]:g}".replace("-", "−"))
    return ", ".join(found)
