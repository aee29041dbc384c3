"""Stage `augment` with Albumentations imported without torch (`augmentation/lean.py`) against Albumentations as it is.

    python benchmarks/augmentation.py [FOLDER] [--rounds 5]

On scikit-learn's digits at 32 pixels, and on a folder of photographs at 160. Ratios are within one run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import Workspace, alternating, median, report, seconds

WITH_TORCH = "import torch, sys; from darkroom.cli import main; sys.exit(main(['augment']))"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="photographs, one subfolder per class")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        place = Workspace(Path(scratch) / "workspace")
        recipes = {"digits": ["digits"]}
        if options.folder:
            recipes["photographs"] = ["photos", "--data", str(options.folder.resolve()), "--weights", "random"]
        for name, recipe in recipes.items():
            place.recipe(*recipe)
            place.run("dvc", "repro", "augment")

            def with_torch() -> float:
                command = [sys.executable, "-c", WITH_TORCH]
                return seconds(
                    lambda: subprocess.run(command, cwd=place.place, env=place.environment, check=True, capture_output=True)
                )

            lean, plain = map(median, alternating(options.rounds, lambda: place.run("darkroom", "augment"), with_torch))
            rows.append({"data": name, "without torch": lean, "with torch": plain, "ratio": plain / lean})
    report("augmentation", rows)


if __name__ == "__main__":
    main()
