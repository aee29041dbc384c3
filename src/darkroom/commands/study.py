"""Run a study: networks that differ in one thing, over several seeds, at equal cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from darkroom.commands import param_types
from darkroom.core.command_line import Command, Many, json_option
from darkroom.core.errors import ParamsError
from darkroom.core.lazy import lazy_imports
from darkroom.studies import registry

with lazy_imports():
    from darkroom.commands import study_run
    from darkroom.config import package_files, params, study_params
    from darkroom.core import tables

OUT = Path("studies/results")
SIZES = ("quick", "smoke", "full")


class SettingKey(param_types.Completed):
    """KEY=VALUE, completed with the settings of the study."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        name = ctx.meta["study"]
        keys = study_params.model_of(name).model_fields if name else ()
        return [CompletionItem(f"{key}=") for key in keys if key.startswith(incomplete)]


class StudyCommand(Command):
    """The command, whose help lists the settings of the study that is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["study"] = next((word for word in args if word in registry.NAMES), None)
        ctx.meta["size"] = next((word for word in args if word in SIZES), None)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        name, size = ctx.meta["study"], ctx.meta["size"]
        if name is None:
            with formatter.section("Studies"):
                formatter.write_dl(list(registry.NAMES.items()))
            formatter.write_text("`darkroom study NAME --help` lists the settings of a study.")
            return
        content: dict[str, Any] = params.read_yaml(package_files.find(study_params.FILE))
        size = size or content.get("size", SIZES[0])
        values = content.get(name, {}).get(size, {})
        with formatter.section(f"Settings of {name}, size {size} (--set KEY=VALUE)"):
            formatter.write_dl(_describe_settings(study_params.model_of(name), values))


@click.command(cls=StudyCommand)
@click.argument("name", required=False, type=param_types.STUDY)
@click.option("--list", "is_list", is_flag=True, help="list the studies")
@click.option(
    "--size",
    type=click.Choice(SIZES),
    help="minutes; less than one, to see that it runs; or as long as it takes. Default: that of studies/params.yaml",
)
@click.option("--set", "items", cls=Many, type=SettingKey("KEY=VALUE", tuple), help="other values: seeds=5 data=~/photos")
@click.option("--out", type=click.Path(path_type=Path), help=f"the folder of the results; default: {OUT}/NAME")
@click.option("--cost", type=click.Path(path_type=Path), help=f"the folder of times; default: {OUT}/cost/, with the name of --out")
@click.option(
    "--pool",
    envvar="DARKROOM_STUDY_POOL",
    help="a work pool of Prefect's: the runs are trained on the machines of its workers (`darkroom worker`)",
)
@json_option
def command(
    name: str | None, is_list: bool, size: str | None, items: tuple[str, ...], out: Path | None, cost: Path | None,
    pool: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Run a study: networks that differ in one thing, over several seeds, at equal cost.

    studies/params.yaml has the data, the size and all other settings; a project without this file uses that of Darkroom.
    A study that was stopped continues where it was.
    """
    if is_list:
        if as_json:
            tables.print_json([{"name": name, "summary": summary} for name, summary in registry.NAMES.items()])
        else:
            tables.show(["study", "summary"], registry.NAMES.items())
        return
    if not name:
        raise ParamsError("no study is named", f"name one: darkroom study {next(iter(registry.NAMES))}; --list shows all")
    out = out or OUT / name
    cost = cost or OUT / "cost" / out.name  # beside those of the results, so that no other run's times are replaced
    finding, rows = study_run.run_study(name, size, items, out, cost, pool)
    page = out / "index.html"
    if as_json:
        tables.print_json({"study": name, "finding": finding, "rows": [row.as_dict() for row in rows], "page": str(page)})
        return
    headings = study_run.HEADINGS
    tables.show(headings, [row.cells() for row in rows], right=headings[2:])
    click.echo(f"\n{finding}\n\nthe page: {page}")


def _describe_settings(model: type[params.Section], values: dict[str, Any]) -> list[tuple[str, str]]:
    """Return KEY=VALUE, type and description of each setting."""
    schema = model.model_json_schema()["properties"]
    defaults = {key: field.default for key, field in model.model_fields.items() if not field.is_required()}
    values = defaults | values
    return [
        (f"{key}={_yaml(values[key])}" if key in values else key, f"{_type_text(schema[key])}: {field.description}")
        for key, field in model.model_fields.items()
    ]


def _yaml(value: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    return json.dumps(value) if value in ("", None) or isinstance(value, bool) else str(value)


def _type_text(schema: dict[str, Any]) -> str:
    """Return the type of a JSON schema in words."""
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(map(_type_text, schema["anyOf"]))
    if schema["type"] == "array":
        return f"list of {_type_text(schema['items'])}"
    return {"string": "text", "object": "mapping"}.get(schema["type"], schema["type"])
