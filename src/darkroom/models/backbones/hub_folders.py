"""Networks as the Hugging Face Hub keeps them in timm's form: `model.safetensors` and a `config.json` that names the architecture.

`hf/NAME` is the folder NAME in `weights.folder`, on which DVC depends; `hf/OWNER/NAME` is the same, or where there is none a
repository of the Hub. The network is timm's; its weights, mean and standard deviation are those of the folder. Importing this
costs no torch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from darkroom.core import machine_limits, strict_json, user_paths
from darkroom.core.errors import WeightsError
from darkroom.core.lazy import lazy_imports
from darkroom.core.os_errors import is_retryable
from darkroom.models.backbones import timm_tables

with lazy_imports():
    import huggingface_hub

PREFIX, CONFIG = "hf/", "config.json"
FILES = ("model.safetensors", "pytorch_model.bin")  # safetensors before others
Numbers = tuple[float, float, float]


@dataclass(frozen=True)
class HubConfig:
    """What a config.json says: the architecture, its keyword arguments, the normalisation, and the licence if it has one."""

    architecture: str
    options: dict[str, Any] = field(default_factory=dict)
    mean: Numbers = (0.485, 0.456, 0.406)
    std: Numbers = (0.229, 0.224, 0.225)
    license: str = ""


def is_named(name: str) -> bool:
    """Tell whether a backbone is named as a folder or a repository of the Hub."""
    return name.startswith(PREFIX)


def local(name: str, weights: Path) -> Path | None:
    """Return the folder of a backbone in the folder of weights; None where it has none."""
    folder = weights / name.removeprefix(PREFIX)
    return folder if (folder / CONFIG).is_file() else None


def check(name: str, weights: Path) -> None:
    """Raise WeightsError where a backbone can be neither a folder nor a repository of the Hub, or its folder is incomplete."""
    folder = local(name, weights)
    if folder:
        read(name, weights)
        weight_file(name, weights)
    elif "/" not in name.removeprefix(PREFIX):
        raise WeightsError(
            f"there is no {weights / name.removeprefix(PREFIX) / CONFIG}, and {name} has no owner, as a repository of the Hub has",
            f"place the folder in {weights}, or name the repository as hf/OWNER/NAME",
        )


def read(name: str, weights: Path) -> HubConfig:
    """Return the configuration of a backbone. Raises WeightsError where it is missing, or not of timm's form."""
    file = _file(name, weights, (CONFIG,))
    user_paths.check_file(file)
    try:
        content = strict_json.loads(file.read_text(encoding="utf-8"))
        own = content.get("pretrained_cfg") or {}
        normal: dict[str, Any] = {key: tuple(map(float, own[key])) for key in ("mean", "std") if own.get(key)}
        architecture, options = content["architecture"], dict(content.get("model_args") or {})
        if any(len(values) != 3 for values in normal.values()) or not isinstance(architecture, str):
            raise ValueError("mean and std have three numbers each, and architecture is a name")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{file} is not a configuration of timm's form: {error!r:.200}",
            'it names the network: {"architecture": "resnet18", "pretrained_cfg": {"mean": […], "std": […]}}; models of the Hub '
            "with the library timm have one",
        ) from error
    if not timm_tables.knows(architecture):
        raise WeightsError(
            f'{file} names the architecture "{architecture}", which timm does not have', "update it: `pip install -U timm`"
        )
    return HubConfig(architecture, options, license=str(own.get("license") or ""), **normal)


def weight_file(name: str, weights: Path) -> Path:
    """Return the file of a backbone's weights, in its folder or in the cache of the Hub's library. Raises WeightsError."""
    return _file(name, weights, FILES)


def _file(name: str, weights: Path, names: tuple[str, ...]) -> Path:
    folder = local(name, weights)
    if folder:
        path = next((folder / file for file in names if (folder / file).is_file()), None)
        if path is None:
            raise WeightsError(f"{folder} has no {names[0]}", "copy the whole folder again from where it came")
        return path
    repository = name.removeprefix(PREFIX)
    check(name, weights)
    if not timm_tables.is_installed():
        raise WeightsError(f"{name} needs the package timm, which is not installed", timm_tables.MISSING)
    try:
        return download(repository, names)
    except Exception as error:  # of the network, and of the Hub
        machine_limits.check(error)
        raise WeightsError(
            f"{repository} cannot be fetched from the Hugging Face Hub: {(str(error).strip().splitlines() or [''])[0]}",
            f"copy its {names[0]} and {CONFIG} into {weights / repository}",
            is_retryable(error),
        ) from error


def download(repository: str, names: tuple[str, ...]) -> Path:
    """Return the first of some files that a repository of the Hub has, in the cache of its library, whose errors it raises."""
    for name in names[:-1]:
        try:
            return Path(huggingface_hub.hf_hub_download(repository, name))
        except huggingface_hub.errors.EntryNotFoundError:
            continue
    return Path(huggingface_hub.hf_hub_download(repository, names[-1]))
