# install · repro · test · test-fast · docs · docs-check · lint · bench · reliability · ui · lock · schedule · schedule-status · schedule-stop
# make repro                                        the embedded default
# make repro DATA=~/photos [RECIPE=photos] [WEIGHTS=imagenet] [SET="transfer.lr=0.01 augment.views=8"]

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

.PHONY: install repro test test-fast docs docs-check lint bench reliability ui lock schedule schedule-status schedule-stop help

help:
	@sed -n 's/^# //p' Makefile | head -3

# an environment that is a link belongs to another folder, which installs it
install: $(shell test -L .venv || echo .venv/.installed)

# an environment has absolute paths: a moved or copied one would run the code of its old place
MOVED := $(shell test -s .venv/.installed && test ! -L .venv && test "$$(cat .venv/.installed)" != "$(CURDIR)" && echo .venv/.moved)
.PHONY: .venv/.moved
.venv/.moved:
	@echo "the environment was made in $$(cat .venv/.installed): it is made again for this folder"
	@rm -rf .venv

# uv from the PATH, else from the package registry into the environment itself
.venv/.installed: requirements.lock pyproject.toml $(MOVED)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Darkroom needs Python 3.11 or later; name one: make PYTHON=python3.12 …" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@echo "installing requirements.lock into .venv (a few minutes the first time)"
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip install --quiet --compile-bytecode --require-hashes -r requirements.lock
	@VIRTUAL_ENV="$(CURDIR)/.venv" $(BIN)/uv pip install --quiet --compile-bytecode --no-deps --no-build-isolation -e .
	@echo "$(CURDIR)" > $@

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

test: install
	@$(PYTEST)

# the laws of every room in about a minute: without what takes more than about a second, and without the real DVC and Prefect
test-fast: install
	@$(PYTEST) -m "not pipeline and not slow"

# the reference from the code, then the site of the documents: build/site/index.html
docs: install
	@$(BIN)/python -m docs.reference
	@$(BIN)/python -m docs.build_site

# the commands of docs/tutorial.md, models.md, mlflow.md and scheduling.md, in a finished project
docs-check: install
	@$(BIN)/python -m pytest tests/docs_check.py

lint: install
	@$(BIN)/ruff check src pipelines tests benchmarks docs
	@$(BIN)/ruff format --check src pipelines tests benchmarks docs
	@$(BIN)/mypy

# make bench DATA=~/photos [WEIGHTS=~/weights] [ONLY="startup transfer"]: ratios within one run
bench: install
	@test -n "$$DATA" || { echo "name a folder of photographs: make bench DATA=~/photos" >&2; exit 2; }
	@$(BIN)/python benchmarks "$$DATA" $${WEIGHTS:+--weights "$$WEIGHTS"} $${ONLY:+--only $$ONLY}

# make reliability DATA=~/photos: damaged files, kills, full disks, wrong requests, a fortnight of flows, some hours; a table
reliability: install
	@test -n "$$DATA" || { echo "name a folder of photographs: make reliability DATA=~/photos" >&2; exit 2; }
	@$(BIN)/python benchmarks/reliability.py "$$DATA"

# make ui [PORT=5001]
ui: install
	@$(BIN)/darkroom ui $${PORT:+--port "$$PORT"}

# a Prefect server and a worker on this machine, with the deployments of prefect.yaml: make schedule [PORT=4300]
schedule: install
	@$(BIN)/python -m pipelines.schedule start $${PORT:+--port "$$PORT"}

schedule-status: install
	@$(BIN)/python -m pipelines.schedule status

schedule-stop: install
	@$(BIN)/python -m pipelines.schedule stop

# every version and hash of what pyproject.toml asks for, on any platform
lock: install
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--all-extras --upgrade -o requirements.lock pyproject.toml
