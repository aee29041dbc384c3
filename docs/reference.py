"""Write the reference, docs/reference/*.md and the table of docs/architectures.md, from the code.

`.venv/bin/python -m docs.reference` writes all of it (`make docs` runs it). The params come from config/params.py (types,
ranges), params.yaml (values, meanings) and dvc.yaml (what runs again), the studies' from config/study_params.py and
studies/params.yaml, the commands from click, output files from the classes and schemas that write them, errors from the places
that raise them, architectures from the networks. Tests hold the pages to the code.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from darkroom.cli import group
from darkroom.commands.flow import FLOWS
from darkroom.config import params, study_params
from darkroom.config.yaml_files import read_yaml
from darkroom.core.command_line import SETTINGS
from darkroom.studies import registry
from docs import reference_architectures, reference_errors, reference_files
from docs.reference_markdown import page, table
from pipelines import command_line, pool_worker

ROOT = Path(__file__).resolve().parents[1]
OUT = Path("docs/reference")
WIDTH = 100  # columns of the help texts
HELP: dict[str, Any] = {key: value for key, value in SETTINGS.items() if key != "max_content_width"}
COMMENT = re.compile(r"^(?P<indent> *)(?P<key>\w+): [^#]*?# (?P<text>.+)$")
SECTION = re.compile(r"^(\w+):")
VARIABLES = {  # of the environment
    "DARKROOM_TRACKING": "`off`: nothing is recorded in MLflow, and nothing registered",
    "DARKROOM_DEBUG": "`1`: errors show their traceback, as with `--debug`",
    "DARKROOM_CSV": "`raw`: CSV files have no apostrophe before texts that a spreadsheet would run as a formula",
    "DARKROOM_PROJECT": "name of the project in Prefect; default: that of its folder",
    "DARKROOM_CONCURRENCY_LIMIT": "a concurrency limit of Prefect's: a stage of a flow takes a slot ([team.md](../team.md))",
    "DARKROOM_TIMEZONE": "time zone of schedules; default: that of the machine",
    "DARKROOM_NOTIFY_COMMAND": "a command that is run where a flow fails or drift begins ([scheduling.md](../scheduling.md))",
    "DARKROOM_NOTIFY_WEBHOOK": "an address that gets the same as JSON",
    "DARKROOM_PIPELINE": "name under which runs are grouped in MLflow; flows set it",
    "DARKROOM_RUN_KEY": "key of a stage's run in MLflow, the same on each machine that tries it; flows with `--pool` set it",
    "DARKROOM_STUDY_POOL": "the option `--pool` of `darkroom study`; `darkroom flow study --pool` sets it",
    "DARKROOM_WORKER_FOLDER": "folder of a worker's clones; `darkroom worker` sets it",
    "DARKROOM_HOME": "the project to which the records of a worktree go; flows set it",
    "DARKROOM_COMPLETE": "`_DARKROOM_COMPLETE` is set by the scripts of `darkroom completion`",
    "DARKROOM_EXIT_CODE_FILE": "set by `darkroom repro`: where its DVC writes the exit code of a stage that failed",
    "DARKROOM_RANKS": "set where `compute.processes` is more than 1: the folder that the processes of a stage share",
    "DARKROOM_FLOW_PROCESS": "set by flows: the process that everything of a run ends with",
    "MLFLOW_TRACKING_URI": "a server or database of MLflow instead of `mlflow.db` ([mlflow.md](../mlflow.md))",
    "PREFECT_API_URL": "a Prefect server instead of that of `make schedule` or a temporary one ([scheduling.md](../scheduling.md))",
    "XDG_CACHE_HOME": "where results are kept that are fetched in a project that may only be read",
    "NO_COLOR": "set: messages have no colours",
}
RECIPE = "photos"  # the recipe for a folder of one's own, whose values are shown beside those of params.yaml
SHARED = ("baseline",)  # the section whose comments also hold for the same keys of other trainings


def main() -> int:
    """Write the pages; pages of earlier versions are removed."""
    generated = pages()
    for path in set((ROOT / OUT).glob("*.md")) - {ROOT / path for path in generated}:
        path.unlink()
    for path, text in generated.items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
    page = ROOT / reference_architectures.PAGE
    page.write_text(reference_architectures.render(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def pages() -> dict[Path, str]:
    """Return the text of each page by its path."""
    return {
        OUT / "params.md": params_page(),
        OUT / "studies.md": studies_page(),
        OUT / "cli.md": cli_page(),
        OUT / "files.md": reference_files.render(ROOT),
        OUT / "errors.md": reference_errors.render(ROOT),
    }


class _Params(NamedTuple):
    """What is known of the keys of params.yaml, by flat key: meanings, stages that run again, values of the recipe."""

    meanings: Mapping[str, str]
    runs: Mapping[str, Sequence[str]]
    recipe: Mapping[str, Any]


def params_page() -> str:
    """Return the page of params.yaml: a table for each section, and the rules that hold between keys."""
    values = read_yaml(ROOT / "params.yaml")
    facts = _Params(
        comments((ROOT / "params.yaml").read_text(encoding="utf-8")),
        stages_of_params(read_yaml(ROOT / "dvc.yaml")["stages"]),
        flat(read_yaml(ROOT / "recipes" / f"{RECIPE}.yaml")),
    )
    schema = params.Params.model_json_schema()
    parts = [
        "`params.yaml` has a section for each stage. Types and ranges are those of `darkroom.config.params`, which refuses unknown",
        "keys with the nearest known one. `value` is that of the file when this page was made (as it is delivered: recipe",
        f"`digits`), `{RECIPE}` what the recipe for your own folder sets. The last column has the stages that DVC runs again after",
        "a change; the stages below them run where their inputs differ.",
    ]
    plain = [key for key, value in values.items() if not isinstance(value, dict)]
    parts += ["", "## Top level", "", *_params_table("", {key: values[key] for key in plain}, schema, facts)]
    for section, content in values.items():
        if section in plain:
            continue
        text = _docstring(params.Params.model_fields[{"register": "register_"}.get(section, section)].annotation)
        parts += ["", f"## {section}", "", *([text, ""] if text else [])]
        parts += _params_table(section, content, _resolve(schema["properties"][section], schema), facts)
    parts += ["", "## Rules between keys", "", "Each is refused with one sentence:", ""]
    parts += [f"- {text}" for text in reference_errors.rules(ROOT / "src/darkroom/config/params.py")]
    return page("params.yaml", parts)


def _params_table(section: str, content: Mapping[str, Any], schema: Mapping[str, Any], facts: _Params) -> list[str]:
    rows = []
    for key, value in content.items():
        name = f"{section}.{key}".lstrip(".")
        places = (name, *(f"{other}.{key}" for other in SHARED))
        meaning = next((facts.meanings[place] for place in places if place in facts.meanings), "")
        own = f"`{yaml_text(facts.recipe[name])}`" if name in facts.recipe else ""
        again = dict.fromkeys([*facts.runs.get(section, []), *facts.runs.get(name, [])])
        rows.append((f"`{key}`", type_text(schema["properties"][key]), f"`{yaml_text(value)}`", own, meaning, ", ".join(again)))
    return table(("key", "type and range", "value", RECIPE, "meaning", "runs again"), rows)


def flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a file of params by flat key."""
    inner = {f"{name}.{key}": value for name, keys in content.items() if isinstance(keys, dict) for key, value in keys.items()}
    return inner | {name: value for name, value in content.items() if not isinstance(value, dict)}


def comments(text: str) -> dict[str, str]:
    """Return the comments at the ends of the lines of params.yaml, by flat key: `transfer.head`."""
    meanings, section = {}, ""
    for line in text.splitlines():
        if match := SECTION.match(line):
            section = match[1]
        if match := COMMENT.match(line):
            meanings[f"{section}.{match['key']}" if match["indent"] else match["key"]] = match["text"]
    return meanings


def stages_of_params(stages: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return for each section or flat key of params.yaml the stages that depend on it, or are made from it."""
    stages_of: dict[str, list[str]] = {}
    for name, stage in stages.items():
        templates = re.findall(r"\$\{(\w+(?:\.\w+)?)\}", str(stage.get("deps", "")) + str(stage.get("matrix", "")))
        for key in [*stage.get("params", []), *templates]:
            if isinstance(key, str) and not key.startswith(("item.", "run")):
                stages_of.setdefault(key, []).append(name)
    return stages_of


def studies_page() -> str:
    """Return the page of studies/params.yaml: what all studies take, and what each adds."""
    values = read_yaml(ROOT / study_params.FILE)
    common = study_params.Setting.model_fields
    parts = [
        "`studies/params.yaml` has a section for each study, with the sizes `quick`, `smoke` and `full`. `darkroom study NAME",
        "--set KEY=VALUE` changes a setting for one run, and `darkroom study NAME --help` shows those of the study.",
        "",
        "## All studies",
        "",
        *_settings_table(study_params.Setting, {}, common),
    ]
    for name, summary in registry.NAMES.items():
        model = study_params.model_of(name)
        own = [key for key in model.model_fields if key not in common]
        parts += ["", f"## {name}", "", f"`darkroom study {name}`: {summary}", "", *_settings_table(model, values[name], own)]
    return page("Settings of the studies", parts)


def _settings_table(model: type[params.Section], sizes: Mapping[str, Any], keys: Iterable[str]) -> list[str]:
    """Return the settings with their values in the sizes quick and full, where these are short."""
    schema = model.model_json_schema()
    shown = [size for size in ("quick", "full") if size in sizes]
    rows = []
    for key in keys:
        field = model.model_fields[key]
        defaults = "" if field.is_required() else yaml_text(field.default)
        cells = [yaml_text(sizes[size][key]) if key in sizes[size] else defaults for size in shown]
        texts = [f"`{cell}`" if cell and len(cell) < 60 else "see the file" if cell else "" for cell in cells]
        rows.append((f"`{key}`", type_text(_resolve(schema["properties"][key], schema)), *texts, field.description or ""))
    return table(("setting", "type and range", *shown, "meaning"), rows)


def cli_page() -> str:
    """Return the page of the command line: click's own help of every command."""
    parts = [
        "`darkroom COMMAND --help` prints the same. Every command also takes `--debug`, which shows the traceback of an error.",
        "",
        *table(("exit code", "meaning"), reference_errors.EXIT_CODES),
        "",
        "## Environment",
        "",
        *table(("variable", "meaning"), [(f"`{name}`", meaning) for name, meaning in VARIABLES.items()]),
    ]
    for path, command in [*commands(group, ("darkroom",)), *flows(), (("darkroom", "worker"), pool_worker.command)]:
        with click.Context(command, info_name=path[-1], parent=_parents(path), terminal_width=WIDTH, **HELP) as context:
            context.meta.update(study=None, size=None)
            text = "\n".join(line.rstrip() for line in context.get_help().splitlines())
        parts += ["", f"{'##' if len(path) < 3 else '###'} {' '.join(path)}", "", "```text", text, "```"]
    return page("Command line", parts)


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and those below it, each with the words that name it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1])
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None and not child.hidden and child.add_help_option:  # what hands its words on has a help of its own
                yield from commands(child, (*path, name))


def flows() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield the commands of the flows, which `darkroom flow` hands its words on to."""
    for name in FLOWS:
        flow = getattr(importlib.import_module(f"pipelines.{name}"), name)
        yield ("darkroom", "flow", name), command_line.command(flow)


def _parents(path: Sequence[str]) -> click.Context | None:
    context: click.Context | None = None
    for name in path[:-1]:
        context = click.Context(click.Command(name), info_name=name, parent=context)
    return context


def type_text(schema: Mapping[str, Any]) -> str:
    """Return the type and the range of a JSON schema in words."""
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(map(type_text, schema["anyOf"]))
    kind = schema.get("type")
    if kind == "array":
        if "prefixItems" in schema:
            return f"{len(schema['prefixItems'])} × {type_text(schema['prefixItems'][0])}"
        least = f", {schema['minItems']} or more" if schema.get("minItems") else ""
        return f"list of {type_text(schema['items'])}{least}"
    if kind in ("integer", "number"):
        return f"{'whole number' if kind == 'integer' else 'number'}{_range(schema)}"
    if kind == "string":
        return f"text like `{schema['pattern']}`" if "pattern" in schema else "text"
    return {"object": "mapping", "null": "`null`", "boolean": "`true`, `false`"}.get(str(kind), "any")


def _range(schema: Mapping[str, Any]) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    words = [f"{low:g} or more" if low is not None else f"above {above:g}" if above is not None else ""]
    words += [f"{high:,} at most" if high is not None else f"below {below:,}" if below is not None else ""]
    text = ", ".join(filter(None, words))
    return f", {text}" if text else ""


def yaml_text(value: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {yaml_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(yaml_text, value))}]"
    if isinstance(value, bool) or value in (None, ""):
        return json.dumps(value)
    return str(value)


def _resolve(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    reference = schema.get("$ref")
    return root["$defs"][reference.rpartition("/")[2]] if reference else schema


def _docstring(kind: Any) -> str:
    """Return the docstring of a class itself, in one line."""
    text = kind.__dict__.get("__doc__") or ""
    return " ".join(inspect.cleandoc(text).split())


if __name__ == "__main__":
    sys.exit(main())
