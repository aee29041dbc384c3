"""Make the environments of benchmarks/accuracy.py's peers: one for each, from its pinned requirements, by uv.

    python benchmarks/peers/install.py DIR [fastai keras autogluon geti]

DIR/NAME is the environment of NAME. fastai's takes 6.1 GiB, Keras' 1.6, AutoGluon's 8.2 and Geti's 6.7. The requirements are
resolved anew by `uv pip compile --universal --python-version 3.11 --no-annotate --no-header --no-emit-index-url - -o NAME.txt`,
from the lines of `REQUESTED` below.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

REQUESTED = {
    "fastai": ("fastai==2.8.12", "safetensors"),
    "keras": ("keras==3.15.1", "tensorflow-cpu==2.21.0", "pillow", "safetensors"),
    "autogluon": ("autogluon.multimodal==1.6.3",),
    "geti": ("getitune==0.4.0", "torch==2.14.0", "torchvision==0.29.0", "safetensors"),  # its extra `cpu` is on PyTorch's index
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("peers", nargs="*", choices=[[], *REQUESTED], default=list(REQUESTED))
    options = parser.parse_args()
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        raise SystemExit("uv is missing: `make install` puts it into .venv/bin")
    for name in options.peers:
        place = (options.folder / name).resolve()
        if not (place / "bin/python").exists():
            subprocess.run([uv, "venv", "--quiet", "--python", "3.11", str(place)], check=True)
        requirements = Path(__file__).with_name(f"{name}.txt")
        command = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--requirement", str(requirements)]
        subprocess.run(command, env=os.environ | {"VIRTUAL_ENV": str(place)}, check=True)
        print(f"{name}: {place}", flush=True)


if __name__ == "__main__":
    main()
