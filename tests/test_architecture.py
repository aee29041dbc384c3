"""The house rules: who may import whom, and that dvc.yaml lists what a stage runs on."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from darkroom.config import package_files, params
from darkroom.config.params import read_yaml
from tests.conftest import ROOT

SOURCE = ROOT / "src" / "darkroom"
LEAVES = {"config", "core"}
ALLOWED = {
    "core": set(),
    "config": set(),
    "data": set(),
    "augmentation": set(),
    "models": set(),
    "training": {"models"},
    "inference": {"models", "data"},
    "evaluation": {"models", "inference", "data"},
    "monitoring": {"data", "inference", "evaluation"},  # data: arriving images are decoded and examined for faults
    "labelling": {"data", "inference", "evaluation"},
    "preflight": {"models", "data", "evaluation"},  # evaluation: what the planned test images can tell apart
    "tracking": {"inference", "data", "models"},  # data: the packaged model names why an image cannot be read
    "lab": {"models", "training", "inference", "evaluation", "augmentation"},
    "studies": {"models", "training", "inference", "evaluation", "augmentation"},
    # stages: folds and heads as the pipeline makes them; lab: what an image costs
    "tuning": {"models", "training", "augmentation", "evaluation", "stages", "lab"},
    "course": set(),
    "project": set(),
}
# cannot change a byte of an output: messages, types of params, the record of a run, the order of calls
HARMLESS = {
    "errors.py", "params.py", "study_params.py", "study_settings.py", "progress.py", "atomic.py", "strict_json.py",
    "locks.py", "__init__.py", "stages/context.py", "core/kept_results.py",
    "stages/trained_model.py", "core/git.py", "config/yaml_files.py", "config/dvc_graph.py",
    "core/command_line.py", "core/lazy.py", "core/os_errors.py", "core/tables.py", "core/user_paths.py",
    "core/shortage.py", "core/array_files.py", "core/checksums.py", "core/json_files.py", "commands/param_types.py",
    "config/settings_help.py", "config/package_files.py", "core/counts.py", "core/platforms.py", "commands/study_records.py",
    "core/large_arrays.py", "core/machine_limits.py", "core/ranks.py", "course/lessons.py", "core/deadline.py",
    "commands/study_pool.py", "commands/flow.py", "config/stage_code.py",
}  # fmt: skip

VAGUE = {  # words that say how a value came about, not what it holds
    "answers", "asked", "asking", "beside", "found", "given", "held", "looks", "made", "said", "told", "wanted", "ways", "what",
}  # fmt: skip
ANSWERS = ("course/lessons.py", "answers")  # those to the questions of a page


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file, to be read only."""
    return ast.parse(path.read_text(encoding="utf-8"))


def typing_only(tree: ast.AST) -> set[int]:
    """Return the ids of the nodes that only a type checker reads."""
    return {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }


@cache
def imports(path: Path) -> frozenset[str]:
    """Return the modules that a file imports anywhere, except for type checking."""
    tree = parsed(path)
    skipped = typing_only(tree)
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


@cache
def modules() -> dict[str, Path]:
    """Return darkroom's modules by name."""
    return {
        ".".join(("darkroom", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__"): path
        for path in SOURCE.rglob("*.py")
    }


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_only_what_they_may(room):
    """The rooms do not import each other, except as docs/architecture.md says."""
    for path in (SOURCE / room).rglob("*.py"):
        for name in imports(path):
            if name.startswith("darkroom."):
                target = name.split(".")[1]
                assert target == room or target in ALLOWED[room] | LEAVES, f"{path.relative_to(ROOT)} imports {name}"


def test_only_their_rooms_import_the_big_libraries():
    """MLflow is imported in tracking, Albumentations in augmentation, Prefect and DVC nowhere in the package."""
    owners = {"mlflow": "tracking", "albumentations": "augmentation", "prefect": None, "dvc": None}
    for path in SOURCE.rglob("*.py"):
        room = path.relative_to(SOURCE).parts[0]
        for name in imports(path):
            library = name.split(".")[0]
            assert library not in owners or owners[library] == room, f"{path.relative_to(ROOT)} imports {name}"


def test_models_and_training_run_on_a_bare_gpu_machine():
    """Models and training need neither MLflow, Albumentations nor pandas."""
    for room in ("models", "training"):
        for path in (SOURCE / room).rglob("*.py"):
            assert not {name.split(".")[0] for name in imports(path)} & {
                "mlflow",
                "albumentations",
                "pandas",
                "sklearn",
            }, path


def test_pipelines_know_config_and_core_alone():
    """Flows import nothing from the package but config and core, and nothing imports flows."""
    for path in (ROOT / "pipelines").glob("*.py"):
        for name in imports(path):
            assert not name.startswith("darkroom.") or name.split(".")[1] in ("config", "core"), f"{path} imports {name}"
    for path in SOURCE.rglob("*.py"):
        assert not any(name.split(".")[0] in ("pipelines", package_files.FLOWS) for name in imports(path))


def is_module(name: str) -> bool:
    """Tell whether there is such a module, without an import of its package."""
    package, _, rest = name.partition(".")
    spec = importlib.util.find_spec(package)
    if not rest or spec is None:
        return spec is not None
    paths = [Path(folder, *rest.split(".")) for folder in spec.submodule_search_locations or ()]
    return any(path.is_dir() or path.with_suffix(".py").is_file() for path in paths)


def test_lazy_imports_are_of_modules():
    """A block of `lazy_imports` names modules alone: a class cannot stand for itself before it is imported."""
    for path in [*SOURCE.rglob("*.py"), *(ROOT / "pipelines").glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]:
        for block in ast.walk(parsed(path)):
            if isinstance(block, ast.With) and ast.unparse(block.items[0].context_expr) == "lazy_imports()":
                for node in block.body:
                    assert isinstance(node, (ast.Import, ast.ImportFrom)), f"{path.relative_to(ROOT)}:{node.lineno}"
                    for alias in node.names:
                        name = f"{node.module}.{alias.name}" if isinstance(node, ast.ImportFrom) else alias.name
                        assert is_module(name), f"{path.relative_to(ROOT)} imports {name}, which is no module"
                        assert isinstance(node, ast.ImportFrom) or "." not in name, f"write `from … import …` for {name}"


def test_imports_stand_at_the_top():
    """No function imports anything: the command group, which imports a command when it is called, does it by name."""
    for path in [*SOURCE.rglob("*.py"), *(ROOT / "pipelines").glob("*.py")]:
        for function in ast.walk(parsed(path)):
            if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
                for node in ast.walk(function):
                    assert not isinstance(node, (ast.Import, ast.ImportFrom)), f"{path.relative_to(ROOT)}:{node.lineno}"


def test_no_module_imports_itself_by_way_of_others():
    """There is no import cycle, in the package or among the flows."""
    names = modules() | {f"pipelines.{path.stem}": path for path in (ROOT / "pipelines").glob("*.py")}
    graph = {
        name: {
            target for target in imports(path) & names.keys()
            if target != name and not (path.name == "__init__.py" and target.startswith(f"{name}."))
        }
        for name, path in names.items()
    }  # fmt: skip
    for name, targets in graph.items():  # `from package import module` needs the module, whatever the package is
        graph[name] = {target for target in targets if not any(other.startswith(f"{target}.") for other in targets)}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_no_room_without_a_name():
    """No module is named utils, helpers, common or misc."""
    assert not {path.stem for path in SOURCE.rglob("*.py")} & {"utils", "helpers", "common", "misc"}


def bound_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each variable, field, attribute, argument, function and class that a module binds."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name


def test_names_say_what_they_hold():
    """No variable, argument, attribute or function of the package or of the flows is named by a word of VAGUE alone."""
    for path in [*SOURCE.rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]:
        place = path.relative_to(SOURCE if path.is_relative_to(SOURCE) else ROOT).as_posix()
        for line, name in bound_names(parsed(path)):
            word = name.strip("_")
            assert word not in VAGUE or (place, word) == ANSWERS, f"{place}:{line}: name `{name}` by what it holds"


def graph(file: str = "dvc.yaml") -> dict:
    return read_yaml(ROOT / file)["stages"]


def is_harmless(path: Path, stage: str) -> bool:
    name = path.relative_to(SOURCE).as_posix()
    if stage == "lab" and name == "commands/lab/options.py":
        return True  # declares options, and finds a model to inspect; an autoencoder is trained
    if name.startswith("tracking/"):  # the record of a run; for register, the model that it makes
        return stage != "register" or path.name not in ("registry.py", "pyfunc_model.py", "model_package.py")
    return path.name in HARMLESS or name in HARMLESS


def closure(stage: str, *begins: str) -> set[Path]:
    """Return the files whose code a stage can run, lazily imported ones included; it begins with these modules."""
    seen: set[Path] = set()
    todo = list(begins) or [f"darkroom.stages.{stage}"]
    while todo:
        path = modules().get(todo.pop())
        if path is None or path in seen or is_harmless(path, stage):
            continue
        seen.add(path)
        todo += imports(path)
    return seen


@pytest.mark.parametrize("stage", list(graph()))
def test_dependencies_list_the_code_that_a_stage_runs(stage):
    """Every module that a stage can import is among its deps in dvc.yaml, so that changed code runs again."""
    listed = [ROOT / dep for dep in graph()[stage]["deps"] if dep.startswith("src/")]
    for path in closure(stage):
        name = path.relative_to(SOURCE).as_posix()
        if stage == "register" and name.startswith(("inference/", "data/")):
            continue  # in the registered version, keyed by the checkpoint; or asks a champion, whose verdict is of the moment
        assert any(path == dep or dep in path.parents for dep in listed), f"{stage} runs {name}"
    for dep in listed:
        assert dep.exists(), f"{stage} lists {dep}, which is not there"


def test_dependencies_of_the_studies_list_the_code_that_they_run():
    """The same holds for studies/dvc.yaml: a stage depends on the digest of its code, which a stage of its own writes."""
    begins = {
        "study": ["darkroom.commands.study", *(name for name in modules() if name.startswith("darkroom.studies."))],
        "lab": ["darkroom.commands.lab.autoencoder"],
    }
    stages = graph("studies/dvc.yaml")
    assert set(stages) == {*begins, *(f"{name}_code" for name in begins)}
    for stage, modules_ in begins.items():
        code = stages[f"{stage}_code"]
        listed = [(ROOT / word[3:]) for word in code["cmd"].split() if word.startswith("../src/")]
        assert stages[stage]["deps"] == code["outs"] == [f"results/{stage}_code.sha256"]
        assert code["always_changed"]
        for path in closure(stage, *modules_):
            assert any(path == dep or dep in path.parents for dep in listed), f"{stage} runs {path.relative_to(SOURCE)}"
        assert all(dep.exists() for dep in listed)


def test_every_param_of_the_studies_is_declared():
    """Each study in studies/params.yaml is a stage that declares its section from there, and the machine is declared by all."""
    from darkroom.config import study_params as studies
    from darkroom.studies.registry import NAMES

    content = read_yaml(ROOT / "studies" / "params.yaml")
    stage = graph("studies/dvc.yaml")["study"]
    assert stage["matrix"]["name"] == list(NAMES), "list the studies in studies/dvc.yaml as in STUDIES: DVC cannot read Python"
    assert set(content) == {"size", "machine", "autoencoder", *NAMES}
    assert graph("studies/dvc.yaml")["lab"]["params"] == ["${item.name}"]
    assert stage["params"] == ["machine", "${item.name}.${size}"]
    assert set(content["depth"]) == set(studies.SIZES)


@pytest.mark.parametrize("file", ["dvc.yaml", "studies/dvc.yaml"])
def test_a_shell_gets_no_value_of_params_unchecked(file):
    """The commands of dvc.yaml have no values but the program, and items of a matrix: such a list is written in dvc.yaml, or the
    stages that it is for, which delete paths of these names too, run after the stage `names`, which depends on the list."""
    stages = graph(file)
    for name, stage in stages.items():
        values = set(re.findall(r"\$\{(.*?)\}", stage["cmd"]))
        assert all(value in ("run", "digest") or value.startswith("item.") for value in values), name
        lists = [item.strip("${}") for item in stage.get("matrix", {}).values() if isinstance(item, str)]
        assert not lists or set(lists) <= set(stages["names"]["params"]), name
        reads = {dep for dep in stage.get("deps", []) if dep == "data/names.txt" or "${item." in dep}
        assert not lists or reads, name  # the first stage of a name reads what `names` writes, the others what that one writes


def test_the_answers_to_threats_have_the_tests_that_the_page_names():
    """Every test that docs/security.md names exists."""
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / "security.md").read_text(encoding="utf-8")))
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert len(named) > 20
    assert not [name for name in sorted(named) if f"def {name}(" not in tests]


def test_only_evaluate_and_the_gate_see_the_test_images():
    """Test images never influence a choice: evaluate and diagnose describe, register can veto, no other stage depends on them."""
    for name, stage in graph().items():
        reads = [dep for dep in stage["deps"] if Path("data/ingested/test").is_relative_to(dep) or "ingested/test" in dep]
        assert bool(reads) == (name in ("evaluate", "diagnose", "register")), name


def test_every_param_is_declared_by_a_stage(values):
    """Each key of params.yaml is a declared param of some stage, so that changing it has an effect."""
    declared = {item for stage in graph().values() for item in stage.get("params", [])}
    text = (ROOT / "dvc.yaml").read_text()
    for section, content in values.items():
        for key in content if isinstance(content, dict) else [""]:
            name = f"{section}.{key}".rstrip(".")
            assert section in declared or name in declared or f"${{{name}}}" in text, name


def test_params_are_two_levels_deep(values):
    """One section per stage, two levels at most."""
    for content in values.values():
        if isinstance(content, dict):
            assert not any(isinstance(value, dict) for value in content.values())


def test_the_stages_are_the_command_line(values):
    """`darkroom <stage>` exists for every stage of dvc.yaml, and for nothing else."""
    from darkroom.cli import STAGES

    assert list(graph())
    assert set(graph()) == set(STAGES)


def test_named_things_agree():
    """What params.py lets a user name is what the rooms provide."""
    from darkroom.augmentation.policies import POLICIES
    from darkroom.data.datasets import DATASETS

    assert tuple(POLICIES) == params.POLICIES  # read from the source
    assert tuple(DATASETS) == params.DATASETS
