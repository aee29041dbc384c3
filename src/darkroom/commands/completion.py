"""Print a script that completes commands, backbones, architectures, data sets and recipes: `eval "$(darkroom completion bash)"`."""

from __future__ import annotations

import argparse
from pathlib import Path

SCRIPTS = {
    "bash": """_darkroom() {
    COMPREPLY=($(compgen -W "$(darkroom complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _darkroom darkroom""",
    "zsh": """_darkroom() {
    local -a found
    found=(${(f)"$(darkroom complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    compadd -a found
    _files
}
compdef _darkroom darkroom""",
    "fish": """complete -c darkroom -a '(darkroom complete (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'""",
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("darkroom completion", description=__doc__)
    parser.add_argument("shell", choices=sorted(SCRIPTS))
    print(SCRIPTS[parser.parse_args(arguments).shell])
    return 0


def candidates(words: list[str]) -> list[str]:
    """Return what the last of the words may become; it answers within the time of a key stroke, so little is imported."""
    from darkroom.cli import EVERYDAY, STAGES

    if len(words) <= 1:
        found = [*EVERYDAY, *STAGES]
    elif words[:2] == ["models", "describe"] and len(words) == 3:
        from darkroom.commands import describe

        found = describe.known()
    elif len(words) > 2:
        found = []
    elif words[0] == "models":
        found = ["describe"]
    elif words[0] == "recipe":
        found = sorted(path.stem for path in Path("recipes").glob("*.yaml"))
    elif words[0] == "flow":
        from darkroom.commands.flow import NAMES

        found = list(NAMES)
    elif words[0] == "completion":
        found = sorted(SCRIPTS)
    elif words[0] == "study":
        from darkroom.studies.registry import NAMES as STUDIES

        found = list(STUDIES)
    elif words[0] == "lab":
        from darkroom.commands import lab

        found = list(lab.COMMANDS)
    else:
        found = _names(words[0])
    return [name for name in found if name.startswith(words[-1] if words else "")]


def _names(stage: str) -> list[str]:
    """Return the backbones or data sets for which params.yaml gives the stage, read from dvc.yaml's matrix."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    try:
        matrix = yaml.load(Path("dvc.yaml").read_text())["stages"][stage]["matrix"]
        value = yaml.load(Path("params.yaml").read_text())
        for key in next(iter(matrix.values())).strip("${}").split("."):
            value = value[key]
    except (OSError, KeyError, TypeError, AttributeError):
        return []
    return [str(name) for name in value]
