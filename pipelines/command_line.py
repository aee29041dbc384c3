"""The flows' command lines, made from the flows' signatures and docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import click
from prefect.flows import Flow
from prefect.utilities.callables import parameter_docstrings

from darkroom.core.command_line import Command, Many, report
from pipelines import flow_runtime

OPTIONS = {"set_params": "--set", "time_limits": "--limit", "limits": "--limit", "max_age_days": "--max-age"}  # others: --NAME
METAVARS = {
    "targets": "STAGE", "names": "STUDY", "folders": "FOLDER", "set_params": "KEY=VALUE", "time_limits": "STAGE=MINUTES",
    "limits": "TEST=SIZE", "older_than": "DAYS", "keep_versions": "N", "max_age_days": "DAYS", "time_limit": "MINUTES",
}  # fmt: skip


def main(flow: Flow[..., Any], arguments: Sequence[str] | None = None) -> int:
    """Run a flow as a command; return its exit code."""
    try:
        code: int = command(flow).main(arguments, f"darkroom flow {flow.name}", standalone_mode=False)
        return code
    except click.ClickException as error:
        return report(error)
    except click.Abort:
        return flow_runtime.INTERRUPTED


def command(flow: Flow[..., Any]) -> click.Command:
    """Return the command of a flow: lists become arguments, all other parameters options."""
    text = inspect.getdoc(flow.fn) or ""
    types, descriptions = get_type_hints(flow.fn), parameter_docstrings(text)
    help_text = text.partition("\n\nArgs:")[0]
    parameters: list[click.Parameter] = []
    for name, parameter in inspect.signature(flow.fn).parameters.items():
        kind, metavar, description = _kind(types[name]), METAVARS.get(name), " ".join(descriptions[name].split())
        option = OPTIONS.get(name, f"--{name.replace('_', '-')}")
        if kind is list:
            parameters.append(click.Argument([name], nargs=-1, metavar=f"[{metavar}]..."))
            help_text += f"\n\n{metavar}: {description}"
        elif kind is dict:
            parameters.append(Many([option, name], metavar=metavar, callback=_parse_pairs, help=description))
        elif kind is bool:
            switch = f"{option}/--no-{name}" if parameter.default else option
            parameters.append(click.Option([switch, name], is_flag=True, default=parameter.default, help=description))
        else:
            parameters.append(click.Option([option, name], type=kind, metavar=metavar, default=parameter.default, help=description))
    return Command(
        flow.name, params=parameters, help=help_text,
        callback=lambda **values: flow_runtime.run_flow(flow, values),
    )  # fmt: skip


def _kind(annotation: Any) -> Any:
    """Return `list`, `dict` or the type itself, without the alternative None."""
    members = [member for member in get_args(annotation) if member is not NoneType]
    kind = annotation if get_origin(annotation) in (list, dict) or not members else members[0]
    return get_origin(kind) or kind


def _parse_pairs(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    for value in values:
        if "=" not in value:
            raise click.BadParameter(f'"{value}" must have the form {option.metavar}', context, option)
    return dict(value.partition("=")[::2] for value in values)
