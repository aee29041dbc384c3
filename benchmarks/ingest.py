"""Measure ingest on a folder of photographs: speed, memory, a second run, near duplicates. Ratios are within one run.

    python benchmarks/ingest.py FOLDER [--only speed memory again copies defects search cut] [--big 48] [--also FOLDER …]

speed    images a second against torchvision's ImageFolder with Pillow's resizing, on the same cores and files, for the folder's
         own photographs and for 12-megapixel ones made of them; and the share of the decoder's own limit
memory   the largest resident size for 7,000 and 70,000 small images, for ingest of 12-megapixel PNGs with 2 and 8 threads, and
         for predictions of them
again    the time after 1% of new images against a cold run, and whether both give the same bytes
copies   how many copies of each kind are found: resized, recompressed, mirrored, turned, cropped, framed, with a banner; and which
         originals are merged, also across the folders of --also
defects  how many copies with another label are a conflict, and how many photographs of one scene with and without a defect
search   the time to search 25,000 and 100,000 fingerprints for near duplicates, and to make them
cut      which JPEGs without their last bytes are used, and how far they are from the whole ones in grey levels
"""

from __future__ import annotations

import argparse
import io
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image, ImageDraw, ImageOps

from darkroom.config.params import SPLITS, Ingest
from darkroom.core import platforms
from darkroom.core.lazy import lazy_imports
from darkroom.data import duplicates, fingerprints, manifest, quality
from darkroom.data.decoding import decode
from darkroom.data.ingest import ingest
from darkroom.inference import image_files, predict

# the part `memory` measures a process without torch
with lazy_imports():
    import torchvision
    from torch.utils import data as torch_data
SIZE = 160


def options(source: Path, **changes: object) -> Ingest:
    values = {
        "source": str(source), "image_size": SIZE, "resize": "crop", "background": (0, 0, 0), "min_size": 8, "split_by": "hash",
        "val_share": 0.1, "test_share": 0.2, "near_duplicates": "group", "on_conflict": "quarantine",
        "on_leak": "quarantine", "max_quarantined": 1, "seed": 0,
    }  # fmt: skip
    return Ingest(**(values | changes))


def photographs(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png") and path.is_file())


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cold(source: Path, scratch: Path, **changes: object) -> float:
    """Return the seconds of an ingest without a cache, arrays written."""

    def work() -> None:
        with ingest(source, options(source, **changes), cache_folder=scratch / "cache") as dataset:
            for name in SPLITS:
                (scratch / "out" / name).mkdir(parents=True)
                dataset.write(name, scratch / "out" / name)

    elapsed = seconds(work)
    shutil.rmtree(scratch / "cache")
    shutil.rmtree(scratch / "out")
    return elapsed


def image_folder(source: Path) -> float:
    """Return the seconds of torchvision's ImageFolder through a DataLoader with a worker a core, Pillow
    resizing, once over.
    """
    datasets, transforms = torchvision.datasets, torchvision.transforms
    steps = [transforms.Resize(SIZE), transforms.CenterCrop(SIZE), transforms.PILToTensor()]
    loader = torch_data.DataLoader(
        datasets.ImageFolder(str(source), transforms.Compose(steps)), batch_size=32, num_workers=platforms.usable_cores()
    )
    return seconds(lambda: [None for _ in loader])


def limit(files: list[Path]) -> float:
    """Return the seconds that decoding alone takes on all cores, at the decoder's own scale, from memory."""
    contents = [path.read_bytes() for path in files if path.suffix.lower() in (".jpg", ".jpeg")]

    def bare(content: bytes) -> None:
        height, width, _, _ = simplejpeg.decode_jpeg_header(content)
        scale = next((n for n in (8, 4, 2) if min(width, height) // n >= 256), 1)
        simplejpeg.decode_jpeg(content, "RGB", min_width=-(-width // scale), min_height=-(-height // scale))

    with ThreadPoolExecutor(platforms.usable_cores()) as pool:
        return seconds(lambda: list(pool.map(bare, contents))) * len(files) / max(len(contents), 1)


def enlarged(files: list[Path], count: int, folder: Path) -> Path:
    """Write photographs of 12 megapixels, made of smaller ones, in two classes."""
    for i in range(count):
        image = Image.open(files[i * len(files) // count]).convert("RGB")
        image = ImageOps.fit(image, (4000, 3000), Image.Resampling.BICUBIC)
        path = folder / ("even", "odd")[i % 2] / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=90)
    return folder


def speed(folder: Path, scratch: Path, arguments: argparse.Namespace) -> None:
    files = photographs(folder)
    for name, source in (("own", folder), ("12 megapixels", enlarged(files, arguments.big, scratch / "big"))):
        images = photographs(source)
        rounds = [(cold(source, scratch), image_folder(source), limit(images)) for _ in range(3)]
        ours, theirs, bare = (statistics.median(item[i] for item in rounds) for i in range(3))
        print(
            f"speed {name}: {len(images)} images, {len(images) / ours:.0f} a second with {platforms.usable_cores()} cores; "
            f"ImageFolder {len(images) / theirs:.0f} a second; ratio {theirs / ours:.2f}; {bare / ours:.0%} of the decoder's limit",
            flush=True,
        )


def memory(folder: Path, scratch: Path, arguments: argparse.Namespace) -> None:
    peaks = {}
    for count in (7_000, 70_000):
        draw = np.random.default_rng(0)
        images = draw.integers(0, 256, (count, 28, 28), np.uint8)
        np.savez(scratch / "small.npz", images=images, labels=np.arange(count) % 10)
        del images
        command = [sys.executable, __file__, str(scratch / "small.npz"), "--only", "peak"]
        peaks[count] = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])
        print(f"memory: {count:,} images of 28 pixels at 32: {peaks[count]} MiB at the peak", flush=True)
    print(f"memory: difference {peaks[70_000] - peaks[7_000]} MiB")
    pngs = scans(48, scratch / "scans")
    for threads in (2, 8):
        measured = measured_peak(pngs, "peak_ingest", threads)
        print(f"memory: 48 PNGs of 12 megapixels, {threads} threads: {measured} MiB", flush=True)
    print(f"memory: predictions of 48 PNGs of 12 megapixels, without a network: {measured_peak(pngs, 'peak_predict')} MiB")


def measured_peak(source: Path, part: str, threads: int = 0) -> int:
    """Return the MiB that a part of this program takes at the peak in a process of its own."""
    command = [sys.executable, __file__, str(source), "--only", part, "--threads", str(threads)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def scans(count: int, folder: Path) -> Path:
    """Write PNGs of 12 megapixels in two classes."""
    draw = np.random.default_rng(0)
    for i in range(count):
        small = Image.fromarray(draw.integers(0, 256, (48, 64, 3), np.uint8))
        path = folder / ("even", "odd")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        small.resize((4000, 3000), Image.Resampling.NEAREST).save(path, compress_level=1)
    return folder


def print_peak() -> None:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(line.split()[1]) // 1024)


def peak(source: Path, scratch: Path, arguments: argparse.Namespace) -> None:
    cold(source, scratch, image_size=32)
    print_peak()


def peak_ingest(source: Path, scratch: Path, arguments: argparse.Namespace) -> None:
    with ingest(source, options(source), cache_folder=scratch / "cache", threads=arguments.threads):
        pass
    print_peak()


def peak_predict(source: Path, scratch: Path, arguments: argparse.Namespace) -> None:
    """Predict as `darkroom predict` does, with a function in the place of a network."""
    preprocessing = SimpleNamespace(image_size=SIZE, resize="crop", background=(0, 0, 0))

    def predict_files(contents: Iterable[bytes]) -> list[predict.Prediction]:
        return predict.predict_files(contents, preprocessing, lambda images: predict.Measured(np.full((len(images), 2), 0.5)))

    classifier: Any = SimpleNamespace(classes=("even", "odd"), threshold=None, predict_files=predict_files)
    assert not [row.error for row in image_files.predict_paths(classifier, photographs(source)) if row.error]
    print_peak()


def again(folder: Path, scratch: Path, arguments: argparse.Namespace) -> None:
    big = enlarged(photographs(folder), max(arguments.big, 100), scratch / "again")
    for name, source in (("own", folder), ("12 megapixels", big)):
        files = photographs(source)
        new = set(files[:: max(1, len(files) // max(1, len(files) // 100))][: max(1, len(files) // 100)])
        copy = scratch / "copy"
        ratios, same = [], True
        for _ in range(3):
            for path in files:
                target = copy / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                if path not in new:
                    shutil.copy(path, target)
            outputs = []
            run(copy, scratch / "kept", scratch / "out")
            for path in new:
                shutil.copy(path, copy / path.relative_to(source))
            warm = run(copy, scratch / "kept", scratch / "out")
            outputs.append(contents(scratch / "out"))
            shutil.rmtree(scratch / "kept")
            first = run(copy, scratch / "kept", scratch / "out")
            outputs.append(contents(scratch / "out"))
            shutil.rmtree(scratch / "kept")
            shutil.rmtree(copy)
            ratios.append((warm, first))
            same = same and outputs[0] == outputs[1]
        warm, first = (statistics.median(item[i] for item in ratios) for i in (0, 1))
        print(
            f"again {name}: {len(files)} images, {len(new)} of them new: {warm:.2f} s, cold {first:.2f} s, "
            f"ratio {warm / first:.3f}; bytes {'the same' if same else 'DIFFER'}",
            flush=True,
        )


def run(source: Path, cache: Path, out: Path) -> float:
    """Return the seconds of an ingest, arrays and manifest written."""
    shutil.rmtree(out, ignore_errors=True)

    def work() -> None:
        with ingest(source, options(source), cache_folder=cache) as dataset:
            for name in SPLITS:
                (out / name).mkdir(parents=True)
                dataset.write(name, out / name)
            manifest.write(out / "manifest.parquet", dataset.rows)

    return seconds(work)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def variants(image: Image.Image, draw: random.Random) -> dict[str, Image.Image]:
    """Return copies of a picture as they occur."""
    width, height = image.size

    def sized(factor: float) -> Image.Image:
        return image.resize((max(64, round(width * factor)), max(64, round(height * factor))), Image.Resampling.LANCZOS)

    def cropped(left: float, top: float, right: float, bottom: float) -> Image.Image:
        return image.crop((round(left * width), round(top * height), round(right * width), round(bottom * height)))

    def anywhere(share: float) -> Image.Image:
        x, y = draw.random() * (1 - share), draw.random() * (1 - share)
        return cropped(x, y, x + share, y + share)

    def centre(share: float) -> Image.Image:
        return cropped((1 - share) / 2, (1 - share) / 2, (1 + share) / 2, (1 + share) / 2)

    def framed(share: float, colour: str) -> Image.Image:
        return ImageOps.expand(image, round(min(width, height) * share), colour)

    side = draw.choice([(0.0, 0.0, 0.9, 1.0), (0.1, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.9), (0.0, 0.1, 1.0, 1.0)])
    turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    return {
        "half size": sized(0.5), "a third larger": sized(4 / 3), "a third, quality 40": sized(1 / 3), "quality 30": image,
        "mirrored": ImageOps.mirror(image), **{f"rotated by {angle}°": image.transpose(turn) for angle, turn in turns.items()},
        "rotated by 3°": image.rotate(3, Image.Resampling.BICUBIC),
        "cropped to 90%, centre": centre(0.9), "cropped to 90%, anywhere": anywhere(0.9), "10% off one side": cropped(*side),
        "cropped to 80%, centre": centre(0.8), "cropped to 80%, anywhere": anywhere(0.8),
        "cropped to 70%, centre": centre(0.7), "cropped to 70%, anywhere": anywhere(0.7),
        "mirrored and cropped to 90%": ImageOps.mirror(centre(0.9)),
        "rotated by 90° and cropped to 80%": centre(0.8).transpose(turns[90]),
        "white border of 10%": framed(0.1, "white"), "white border of 20%": framed(0.2, "white"),
        "black border of 5%": framed(0.05, "black"),
        "padded to a square": ImageOps.pad(image, (max(width, height),) * 2, Image.Resampling.LANCZOS, "black"),
        "banner over the lower 15%": banner(image, 0.15, below=False),
        "banner over the upper 20%": banner(image, -0.2, below=False),
        "banner below, 15%": banner(image, 0.15, below=True),
    }  # fmt: skip


def banner(image: Image.Image, share: float, below: bool) -> Image.Image:
    """Return a picture with a line of text over its lower part, its upper one (a negative share), or below it."""
    width, height = image.size
    tall = round(abs(share) * height)
    top = height if below else 0 if share < 0 else height - tall
    copy = Image.new("RGB", (width, height + tall * below))
    copy.paste(image)
    draw = ImageDraw.Draw(copy)
    draw.rectangle((0, top, width, top + tall), fill=(250, 250, 250) if below else (20, 20, 20))
    draw.text((tall // 3, top + tall // 8), "half price today", fill=(200, 30, 30), font_size=max(8, 2 * tall // 3))
    return copy


def copies(folder: Path, scratch: Path, arguments: argparse.Namespace) -> None:
    with ProcessPoolExecutor(platforms.usable_cores()) as pool:
        described = [item for item in pool.map(fingerprints_of_copies, photographs(folder), chunksize=16) if item]
    originals, count = [item["original"] for item in described], len(described)
    for name in list(described[0])[1:]:
        result = find(["original"] * count + ["copy"] * count, np.stack(originals + [item[name] for item in described]))
        clusters = duplicates.Clusters(2 * count)
        for i, j in result.pairs:
            clusters.join(i, j)
        share = sum(clusters.root(i) == clusters.root(i + count) for i in range(count)) / count
        disputed = {i for pair in result.conflicts for i in pair}
        conflicts = sum(i + count in disputed for i in range(count)) / count
        print(f"copies {name}: {share:.4f} of {count} found; {conflicts:.3f} are conflicts if their label differs", flush=True)
    merge([folder, *arguments.also])


def fingerprints_of_copies(path: Path) -> dict[str, np.ndarray]:
    """Return the fingerprints of a photograph and of its copies, by kind; none of a photograph that has none."""
    original = fingerprint(path.read_bytes())
    if original is None:
        return {}
    described = {"original": original}
    for name, variant in variants(Image.open(path).convert("RGB"), random.Random(path.name)).items():
        copy = fingerprint(encoded(variant, {"quality 30": 30, "a third, quality 40": 40}.get(name, 85)))
        described[name] = original if copy is None else copy
    return described


def merge(folders: list[Path]) -> None:
    """Print the pairs of originals that are taken for the same picture."""
    described = [(path, fingerprint(path.read_bytes())) for folder in folders for path in photographs(folder)]
    kept = [(path, item) for path, item in described if item is not None]
    pairs = find([""] * len(kept), np.stack([item for _, item in kept])).pairs
    print(f"copies: of {len(kept)} originals {len(pairs)} pairs are taken for the same picture; look at them:")
    for i, j in pairs:
        print(f"  {kept[i][0]}  {kept[j][0]}")


def encoded(image: Image.Image, level: int) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=level)
    return stream.getvalue()


def fingerprint(content: bytes) -> np.ndarray | None:
    picture = decode(content, SIZE, "crop", (0, 0, 0)).upright
    examined = quality.examine(picture) if picture is not None else None
    return None if examined is None else fingerprints.fingerprint(examined[1])


def find(labels: list[str], described: np.ndarray) -> duplicates.Duplicates:
    return duplicates.find(labels, lambda numbers, detailed=False: described[numbers])


def defects(folder: Path, scratch: Path, arguments: argparse.Namespace) -> None:
    """Print how many photographs of one scene under one camera, half of them with a spot, are conflicts.

    The light changes by 8%, the camera moves by 3 pixels of 256, its noise has a deviation of 4 grey levels.
    """
    files = photographs(folder)
    scenes = [ImageOps.fit(Image.open(path).convert("RGB"), (256, 256)) for path in files[:: max(1, len(files) // 40)][:40]]
    for radius in (0, 2, 3, 5, 8, 14):
        for contrast in (40, 90):
            noise = np.random.default_rng(0)
            pairs = [(photograph(scene, 0, 0, noise), photograph(scene, radius, contrast, noise)) for scene in scenes]
            results = [find(["fine", "defect"], np.stack(pair)) for pair in pairs]
            grouped, disputed = (sum(bool(getattr(result, name)) for result in results) for name in ("pairs", "conflicts"))
            spot = f"spot of radius {radius} and contrast {contrast}" if radius else "no defect"
            print(f"defects {spot}: of {len(scenes)} pairs {grouped} are grouped, {disputed} in conflict", flush=True)
            if not radius:
                break


def photograph(scene: Image.Image, radius: int, contrast: int, noise: np.random.Generator) -> np.ndarray:
    """Return the fingerprint of a photograph of a scene, with a spot if the radius is not 0."""
    image = np.roll(np.asarray(scene) * noise.uniform(0.92, 1.08), tuple(noise.integers(-3, 4, 2)), (0, 1))
    picture = Image.fromarray((image + noise.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8))
    x, y = (int(value) for value in noise.integers(40, 200, 2))
    if radius:
        colour = np.asarray(picture)[y, x].astype(int)
        colour = (colour + (contrast if colour.mean() < 128 else -contrast)).clip(0, 255)
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=tuple(colour.tolist()))
    described = fingerprint(encoded(picture, 92))
    assert described is not None
    return described


def search(folder: Path, scratch: Path, arguments: argparse.Namespace) -> None:
    files = photographs(folder)
    for kind in ("noise with the spectrum of photographs", "pieces of the photographs"):
        started = time.perf_counter()
        with ProcessPoolExecutor(
            platforms.usable_cores()
        ) as pool:  # in parts of 1,000, so that they do not depend on the number of cores
            parts = pool.map(textures if kind.startswith("noise") else partial(pieces, files), range(100), chunksize=5)
            everything = np.concatenate(list(parts))
        print(f"search {kind}: {len(everything):,} fingerprints in {time.perf_counter() - started:.0f} s", flush=True)
        for count in (25_000, 100_000):
            described = everything[:count].copy()
            planted = 1_000
            for i in range(planted):
                turned = np.ascontiguousarray(described["detailed"][i][:, ::-1])
                described[count - planted + i] = fingerprints.fingerprint(turned)
            started = time.process_time()  # one process, which does not wait
            pairs = set(find([""] * count, described).pairs)
            spent = time.process_time() - started
            hit = sum((i, count - planted + i) in pairs for i in range(planted))
            print(
                f"search {kind}: {count:,} in {spent:.1f} s of processor time, {hit} of {planted} planted mirrored copies, "
                f"{len(pairs)} pairs",
                flush=True,
            )


def textures(part: int, count: int = 1_000) -> np.ndarray:
    """Return the fingerprints (count,) of noise whose amplitude falls with frequency as that of photographs does
    (1/f^1.2).
    """
    noise, side = np.random.default_rng(part), 128
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij"))
    frequency[0, 0] = 1
    shape = (count, side, side // 2 + 1)
    waves = np.fft.irfft2((noise.standard_normal(shape) + 1j * noise.standard_normal(shape)) / frequency**1.2, s=(side, side))
    waves -= waves.mean((1, 2), keepdims=True)
    images = np.clip(waves / waves.std((1, 2), keepdims=True) * 50 + 128, 0, 255).astype(np.uint8)
    return np.stack([fingerprints.fingerprint(image) for image in images])


def pieces(files: list[Path], part: int, count: int = 1_000) -> np.ndarray:
    """Return the fingerprints (count,) of pieces of a fifth to a half of the side of photographs: of 100 such
    parts, many overlap.
    """
    draw = random.Random(part)
    cut = []
    for k in range(count):
        grey = cv2.imread(str(files[k * len(files) // count]), cv2.IMREAD_GRAYSCALE)
        share = draw.uniform(0.2, 0.5)
        top, left = (round(draw.uniform(0, 1 - share) * side) for side in grey.shape)
        piece = grey[top : top + round(share * grey.shape[0]), left : left + round(share * grey.shape[1])]
        cut.append(fingerprints.fingerprint(cv2.resize(piece, (128, 128), interpolation=cv2.INTER_LINEAR)))
    return np.stack(cut)


def cut(folder: Path, scratch: Path, arguments: argparse.Namespace) -> None:
    draw = np.random.default_rng(0)
    images = [Image.open(path).convert("RGB") for path in photographs(folder)[:: max(1, len(photographs(folder)) // 100)]]
    for name, settings in (("baseline", {}), ("progressive", {"progressive": True})):
        files = [jpeg(image, **settings) for image in images]
        for missing in ("1 byte", "2 bytes", "12 bytes", "40 bytes", "1%", "10%", "30%"):
            for after in (0, 100_000):
                errors, flagged = [], 0
                for content in files:
                    number = float(missing.split("%")[0].split()[0])
                    lost = round(number * len(content) / 100) if "%" in missing else int(number)
                    decoded = decode(content[:-lost] + draw.bytes(after), SIZE, "crop", (0, 0, 0))
                    flagged += "damaged" in decoded.flags
                    if decoded.upright is not None:
                        picture = decode(content, SIZE, "crop", (0, 0, 0)).upright
                        errors.append(float(np.abs(decoded.upright.astype(int) - np.asarray(picture, int)).mean()))
                mean, most = (round(value, 2) for value in (float(np.mean(errors or [0])), max(errors, default=0)))
                print(
                    f"cut {name}: without {missing}, {after:,} random bytes behind it: {len(errors)} of {len(files)} used, "
                    f"{flagged} flagged; mean difference {mean}, at most {most}",
                    flush=True,
                )


def jpeg(image: Image.Image, **settings: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=88, **settings)
    return stream.getvalue()


def main() -> None:
    parts = {
        "speed": speed, "memory": memory, "again": again, "copies": copies, "defects": defects, "search": search, "cut": cut,
    }  # fmt: skip
    alone = {"peak": peak, "peak_ingest": peak_ingest, "peak_predict": peak_predict}  # in a process of their own
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of photographs, one subfolder per class")
    parser.add_argument("--only", nargs="+", choices=[*parts, *alone], default=list(parts))
    parser.add_argument("--big", type=int, default=100, help="how many 12-megapixel photographs to make")
    parser.add_argument("--threads", type=int, default=0, help="of peak_ingest")
    parser.add_argument("--also", nargs="+", type=Path, default=[], help="further folders of photographs, none a copy of another's")
    arguments = parser.parse_args()
    if not alone.keys() & set(arguments.only) and not photographs(arguments.folder):
        parser.error(f"{arguments.folder} holds no photographs (.jpg, .jpeg, .png)")
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as scratch:
            (parts | alone)[name](arguments.folder.resolve(), Path(scratch), arguments)


if __name__ == "__main__":
    main()
