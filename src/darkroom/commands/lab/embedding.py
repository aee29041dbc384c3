"""A map of images by a model's embeddings, by PCA and t-SNE, coloured by class, errors marked: a picture, a table and a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from darkroom.commands.lab import image_io, network_resolver
from darkroom.core.errors import ParamsError, SourceError, printable

if TYPE_CHECKING:
    import numpy as np

INGESTED = Path("data/ingested")
SPLITS = ("train", "val", "test")
THUMBNAIL = 72  # pixels a side on the page


def main(arguments: list[str]) -> None:
    parser = image_io.parser("embedding", __doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=INGESTED, metavar="FOLDER", help=f"of classes; default: {INGESTED}")
    parser.add_argument("--model", default="champion", help="champion (default), a version, a folder, an architecture by name")
    parser.add_argument("--split", choices=SPLITS, help="of data that is split; default: val, and all of a folder")
    parser.add_argument("--most", type=int, default=2000, help="images, drawn evenly from all (2000)")
    parser.add_argument("--perplexity", type=float, default=30.0, help="how many neighbours t-SNE looks at (30)")
    network_resolver.options(parser)
    given = parser.parse_args(arguments)
    if given.most < 1 or given.perplexity <= 0:
        raise ParamsError("--most and --perplexity have to be positive", "the defaults are 2000 and 30")
    image_io.check(given, ".csv", ".html")
    import numpy as np

    from darkroom.lab import drawing, embedding

    subject = network_resolver.find(given)
    images, names, paths = ingested(given, subject) if (given.folder / "classes.json").is_file() else read(given, subject)
    vectors, logits = embedding.embed(subject.network, images)
    plain, shares = embedding.pca(vectors)
    near = embedding.tsne(vectors, given.perplexity)
    said = [subject.classes[i] for i in logits.argmax(1)] if subject.classes else [""] * len(names)
    known = [name in subject.classes for name in names]  # of the others, no name would be right
    wrong = np.array([there and one != other for there, one, other in zip(known, names, said, strict=True)])
    note = f"{len(names)} images, {vectors.shape[1]} numbers each. "
    if any(known):
        note += f"Of {sum(known)} whose class the model knows, it calls {int(wrong.sum())} something else (ringed). "
    note += "PCA keeps distances, as far as two axes can; t-SNE keeps neighbours: its distances and sizes of groups say little."
    titles = (f"PCA: {shares[0]:.0%} and {shares[1]:.0%} of the variance", f"t-SNE, perplexity {given.perplexity:g}")
    title = f"Embeddings of {given.folder} by {subject.said}"
    tile = drawing.Tile(charted(dict(zip(titles, (plain, near), strict=True)), names, wrong))
    header = ("path", "class", "predicted", "error", "pca_x", "pca_y", "tsne_x", "tsne_y")
    rows = [
        (path, name, answer, int(bad), *(f"{value:.5g}" for value in (*one, *other)))
        for path, name, answer, bad, one, other in zip(paths, names, said, wrong, plain, near, strict=True)
    ]
    page = paged(title, note, dict(zip(titles, (plain, near), strict=True)), images, rows)
    beside = {".csv": image_io.as_csv(header, rows), ".html": page}
    image_io.write(given, drawing.sheet(printable(title), [drawing.Row([tile])], note), beside)


def ingested(given: Any, subject: network_resolver.Subject) -> tuple[np.ndarray, list[str], list[str]]:
    """Return images, class names and places of a split that `ingest` wrote; the network has to take images of its size."""
    from darkroom.data import arrays

    split = given.split or "val"
    classes = arrays.load_classes(given.folder / "classes.json")
    images, labels = arrays.load_split(given.folder / split)
    if images.shape[1] != subject.size:
        raise SourceError(
            f"{given.folder} holds images of {images.shape[1]} pixels, {subject.said} takes {subject.size}",
            f"name a folder of image files, or an architecture with --size {images.shape[1]}",
        )
    chosen = evenly(len(images), given.most)
    return images[chosen], [classes[i] for i in labels[chosen]], [f"{split}/{i}" for i in chosen]


def read(given: Any, subject: network_resolver.Subject) -> tuple[np.ndarray, list[str], list[str]]:
    """Return images, class names and paths of a folder of classes, as the network is given them; what cannot be read is counted."""
    import numpy as np

    from darkroom.data import sources

    if not given.folder.exists():
        raise SourceError(f"there is no folder {given.folder}", "name one of classes, or run `dvc repro`")
    images, names, paths, failed = [], [], [], 0
    with sources.opened(given.folder) as source:
        found = [item for item in source.found if not item.ignored and not item.refused and given.split in (None, item.split)]
        for i in evenly(len(found), given.most):
            pixels = _pixels(source, found[i], subject.preprocessing)
            if pixels is None:
                failed += 1
                continue
            images.append(pixels)
            names.append(found[i].label)
            paths.append(found[i].path)
    if failed:
        print(f"{failed} of {len(found)} could not be read")
    if not images:
        raise SourceError(f"there are no images in {given.folder}", "name a folder with a folder of images for each class")
    return np.stack(images), names, paths


def _pixels(source: Any, item: Any, wanted: Any) -> np.ndarray | None:
    """Return an image of a source as the network is given it, or None where it cannot be read."""
    from darkroom.data import decoding

    try:
        content = source.read(item)
    except (OSError, ValueError):
        return None
    decode = decoding.decode if isinstance(content, bytes) else decoding.from_array
    return decode(content, wanted.image_size, wanted.resize, wanted.background).pixels


def evenly(count: int, most: int) -> list[int]:
    """Return at most so many indices, evenly from the first to the last."""
    return list(range(count)) if count <= most else sorted({round(i * (count - 1) / max(1, most - 1)) for i in range(most)})


def charted(maps: dict[str, np.ndarray], names: list[str], wrong: np.ndarray) -> np.ndarray:
    """Return scatter plots side by side, a colour for each class, errors ringed."""
    import numpy as np
    from matplotlib.figure import Figure

    from darkroom.lab import drawing

    figure = Figure((10.6, 5.6), dpi=100, layout="constrained")
    classes = sorted(set(names))
    for axes, (title, points) in zip(figure.subplots(1, 2), maps.items(), strict=True):
        for number, name in enumerate(classes):
            member = np.array([item == name for item in names])
            colour = np.array(drawing.COLOURS[number % len(drawing.COLOURS)]) / 255
            marker = "os^Dv"[number // len(drawing.COLOURS) % 5]
            axes.scatter(*points[member].T, s=16, color=colour, marker=marker, alpha=0.75, lw=0, label=printable(name)[:24])
        axes.scatter(*points[wrong].T, s=70, facecolors="none", edgecolors="black", lw=1.1)
        axes.set_title(title, fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color("#dcdcd6")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles[:40], labels[:40], loc="outside lower center", ncols=min(10, len(labels)), frameon=False, fontsize=9)
    return drawing.plotted(figure)


def paged(title: str, note: str, maps: dict[str, np.ndarray], images: np.ndarray, rows: list[tuple[Any, ...]]) -> str:
    """Return the page: the same maps as SVG, with a thumbnail for each dot."""
    from darkroom.core import pages
    from darkroom.lab import drawing

    classes = sorted({row[1] for row in rows})
    colours = {name: "#{:02x}{:02x}{:02x}".format(*drawing.COLOURS[i % len(drawing.COLOURS)]) for i, name in enumerate(classes)}
    shown = [{"colour": colours[row[1]], "error": row[3]} for row in rows]
    words = [printable(f"{row[0]}: {row[1]}" + (f", called {row[2]}" if row[3] else "")) for row in rows]
    return pages.render(
        "lab", "embedding.html.j2", source="embeddings", title=printable(title), note=note, rows=shown, words=words,
        key=[(printable(name), colour) for name, colour in colours.items()], small=images.shape[1] <= 64,
        maps=[(name, placed(points)) for name, points in maps.items()],
        pictures=[pages.picture(image, THUMBNAIL) for image in images],
    )  # fmt: skip


def placed(points: np.ndarray) -> list[tuple[float, float]]:
    """Return points as places in a square of 500, y upwards, with a margin."""
    low, high = points.min(0), points.max(0)
    scaled = 15 + 470 * (points - low) / (high - low).clip(1e-12)
    return [(round(float(x), 1), round(float(500 - y), 1)) for x, y in scaled]
