# install · repro · test · test-fast · test-team · docs · docs-check · lint · dist · bench · reliability · ui · lock · schedule · schedule-status · schedule-stop
# make repro                                        the embedded default
# make repro DATA=~/photos [RECIPE=photos] [WEIGHTS=imagenet] [SET="transfer.lr=0.01 augment.views=8"]
# make install TORCH=cpu                            torch without CUDA, for a machine without a GPU

SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
UV_VERSION := 0.13.8

export DO_NOT_TRACK := 1
export NO_ALBUMENTATIONS_UPDATE := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false

ifneq ($(strip $(DATA)),)
RECIPE ?= photos
endif

.PHONY: install install-dev repro test test-fast test-team docs docs-check lint dist bench reliability ui lock schedule schedule-status schedule-stop help

help:
	@sed -n 's/^# //p' Makefile | head -4

# an environment that is a link belongs to another folder, which installs it
install: $(shell test -L .venv || echo .venv/.installed)

# what tests and the linter need, beside it
install-dev: install $(shell test -L .venv || echo .venv/.installed-dev)

# an environment has absolute paths: a moved or copied one would run the code of its old place
MOVED := $(shell test -s .venv/.installed && test ! -L .venv && test "$$(cat .venv/.installed)" != "$(CURDIR)" && echo .venv/.moved)
.PHONY: .venv/.moved
.venv/.moved:
	@echo "the environment was made in $$(cat .venv/.installed): it is made again for this folder"
	@rm -rf .venv

# the build of torch: that of the package registry, which has CUDA on Linux, or one of PyTorch's own: cpu, cu130, rocm7.2, …
# (`uv pip install --help`, --torch-backend). An environment keeps its build; another one is made anew, since CUDA would stay.
TORCH ?= $(shell cat .venv/.torch 2>/dev/null)
OTHER_TORCH := $(shell test -s .venv/.installed && test ! -L .venv && test "$$(cat .venv/.torch 2>/dev/null)" != "$(TORCH)" && echo .venv/.other-torch)
.PHONY: .venv/.other-torch
.venv/.other-torch:
	@echo "the environment has another build of torch: it is made again"
	@rm -rf .venv

# what comes with a build of torch, and is not in the lock for the others
TORCH_FAMILY := torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+
UV_INSTALL := VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip install --quiet --compile-bytecode
# uv from the PATH, else from the package registry into the environment itself
.venv/.installed: requirements.lock pyproject.toml setup.py $(MOVED) $(OTHER_TORCH)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Darkroom needs Python 3.11 or later; name one: make PYTHON=python3.12 …" >&2; exit 2; }
	@$(PYTHON) -c 'import platform, sys; sys.exit((platform.system(), platform.machine()) == ("Darwin", "x86_64"))' || { \
		echo "PyTorch and ONNX Runtime have no packages for macOS on Intel: use Linux, or on Apple silicon a Python for it: make PYTHON=…" >&2; \
		exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "installing requirements.lock into .venv (a few minutes the first time)"
ifeq ($(strip $(TORCH)),)
	@$(UV_INSTALL) --require-hashes -r requirements.lock
else
	@awk '/^[a-z]/ { skip = /^($(TORCH_FAMILY))==/ } !skip' requirements.lock > .venv/requirements.lock
	@$(UV_INSTALL) --no-deps --require-hashes -r .venv/requirements.lock
	@$(UV_INSTALL) --torch-backend $(TORCH) $$(sed -nE 's/^(torch(vision)?==[^ ]*).*/\1/p' requirements.lock)
endif
	@$(UV_INSTALL) --no-deps --no-build-isolation -e .
	@echo "$(TORCH)" > .venv/.torch
	@echo "$(CURDIR)" > $@

.venv/.installed-dev: requirements-dev.lock .venv/.installed
	@$(UV_INSTALL) --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

export DATA RECIPE WEIGHTS SET ONLY PORT

# `make repro DATA=` with an empty variable of the shell would run something else than what was meant
EMPTY := $(foreach name,DATA RECIPE WEIGHTS SET,$(if $(filter command,$(origin $(name))),$(if $(strip $($(name))),,$(name))))

repro: install
	@for name in $(EMPTY); do \
		printf 'error: %s is empty\n  remedy: give it a value, or leave it out\n' "$$name" >&2; exit 2; done
	@if [ -n "$$RECIPE$$DATA$$WEIGHTS$$SET" ]; then \
		set --; \
		if [ -n "$$RECIPE" ]; then set -- "$$@" "$$RECIPE"; fi; \
		if [ -n "$$DATA" ]; then set -- "$$@" --data "$$DATA"; fi; \
		if [ -n "$$WEIGHTS" ]; then set -- "$$@" --weights "$$WEIGHTS"; fi; \
		if [ -n "$$SET" ]; then set -- "$$@" --set "$$SET"; fi; \
		$(BIN)/darkroom recipe "$$@"; \
	else $(BIN)/darkroom check; fi
	@$(BIN)/darkroom repro
	@$(BIN)/darkroom sync || true
	@echo
	@$(BIN)/darkroom leaderboard

# workers: see tests/conftest.py; a file of tests, which may share a server or a workspace, runs in one of them
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test: install-dev
	@$(PYTEST) -m "not team"

# what deploy/ and a work pool are for: servers of MLflow and Prefect on PostgreSQL, S3, several people and machines
test-team: install-dev
	@$(PYTEST) -m team

# the laws of every room in about a minute: without what takes more than about a second, and without the real DVC and Prefect
test-fast: install-dev
	@$(PYTEST) -m "not pipeline and not slow and not team"

# the reference from the code, then the site of the documents: build/site/index.html
docs: install-dev
	@$(BIN)/python -m docs.reference
	@$(BIN)/python -m docs.build_site

# the commands of docs/tutorial.md, models.md, mlflow.md and scheduling.md, in a finished project
docs-check: install-dev
	@$(BIN)/python -m pytest tests/docs_check.py

lint: install-dev
	@$(BIN)/ruff check src pipelines tests benchmarks docs setup.py
	@$(BIN)/ruff format --check src pipelines tests benchmarks docs setup.py
	@$(BIN)/mypy

# a wheel and a source distribution, in dist/
dist: install
	@git diff --quiet HEAD -- 2>/dev/null || echo "note: they have changes that are not committed"
	@rm -f dist/darkroom-*.whl dist/darkroom-*.tar.gz
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv build --quiet --offline --no-build-isolation --out-dir dist .
	@ls dist/*.whl dist/*.tar.gz

# make bench DATA=~/photos [WEIGHTS=~/weights] [ONLY="startup transfer"]: ratios within one run
bench: install
	@test -n "$$DATA" || { echo "name a folder of photographs: make bench DATA=~/photos" >&2; exit 2; }
	@$(BIN)/python benchmarks "$$DATA" $${WEIGHTS:+--weights "$$WEIGHTS"} $${ONLY:+--only $$ONLY}

# make reliability DATA=~/photos: damaged files, kills, power failures, full disks, wrong requests, a fortnight of flows: a table, after hours
reliability: install
	@test -n "$$DATA" || { echo "name a folder of photographs: make reliability DATA=~/photos" >&2; exit 2; }
	@$(BIN)/python benchmarks/reliability.py "$$DATA"

# make ui [PORT=5001]
ui: install
	@$(BIN)/darkroom ui $${PORT:+--port "$$PORT"}

# a Prefect server and a worker on this machine, with the deployments of prefect.yaml: make schedule [PORT=4300]
schedule: install
	@$(BIN)/darkroom schedule start $${PORT:+--port "$$PORT"}

schedule-status: install
	@$(BIN)/darkroom schedule status

schedule-stop: install
	@$(BIN)/darkroom schedule stop

# every version and hash of what pyproject.toml asks for, on any platform: what runs, HEIC included, and in a file of its own
# what tests need beside it, with the other extras
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock" --upgrade
LOCKED := sed -n 's/^\([a-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements.lock
lock: install
	@$(COMPILE) --extra heif -o requirements.lock pyproject.toml
	@$(COMPILE) --all-extras -c requirements.lock $$($(LOCKED)) pyproject.toml | sed '/^# The following packages were excluded/,$$d' > requirements-dev.lock
	@$(COMPILE) -c requirements.lock -c requirements-dev.lock -o deploy/mlflow/requirements.txt deploy/mlflow/requirements.in
