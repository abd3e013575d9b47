# Everything runs in .venv, with the versions of uv.lock.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
SYNC = $(UV) sync --locked --inexact --quiet --compile-bytecode
OUT ?= demo-out
GALLERY ?= gallery-out
N ?= 200
MINUTES ?= 60
SITE ?= site-out
MKDOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs

.PHONY: help setup demo test test-viewer test-ui gallery lint bench-receive docs docs-serve selftest lock clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: $(UV) ## set up the node in .venv
	@[ -x $(BIN)/dicom-node ] || echo "setting up .venv, about a minute the first time"
	@$(SYNC) --no-default-groups

demo: setup ## a series by C-STORE to the node, SEG and SR back (SERIES=folder for a real one, SHOW=1 leaves its page running)
	@$(BIN)/dicom-node demo --out $(OUT) $(if $(SERIES),--series "$(SERIES)") $(if $(SHOW),--show)

test: $(UV) ## set up and run everything that CI runs
	@$(SYNC) --extra train --group docs
	@sh tests/install_peers.sh
	@$(MAKE) --no-print-directory lint
	$(BIN)/pytest --numprocesses 3 --dist loadfile $(ARGS)

test-viewer: $(UV) ## what OHIF shows of the results, in Chromium (minutes; fetches OHIF once)
	@$(SYNC) --extra train
	@sh tests/install_peers.sh
	nice $(BIN)/pytest -m viewer tests/viewer $(ARGS)

test-ui: $(UV) ## the page in Chromium
	@$(SYNC) --extra train
	@sh tests/install_peers.sh
	$(BIN)/pytest -m ui tests/web $(ARGS)

gallery: $(UV) ## a folder of real results to look at, with OHIF's view of them (GALLERY=folder)
	@$(SYNC) --extra train
	@nice $(BIN)/python -m tests.viewer.gallery $(GALLERY)

docs: $(UV) ## the documentation as a site, strictly (SITE=folder)
	@$(SYNC) --only-group docs
	@$(MKDOCS) build --strict --quiet --site-dir $(abspath $(SITE))
	@echo "$(SITE)/index.html"

docs-serve: $(UV) ## the same on 127.0.0.1:8000, made anew at each change
	@$(SYNC) --only-group docs
	@$(MKDOCS) serve --strict

torture: $(UV) ## kill -9 a working node N times, then hold archives against senders (N=200; ARGS="--forked --seed 1", see --help)
	@$(SYNC) --extra train
	@sh tests/install_peers.sh
	@nice $(BIN)/python -m tests.torture --kills $(N) $(ARGS)

soak: $(UV) ## work without end: slopes of memory, threads, descriptors, databases, spool (MINUTES=60)
	@$(SYNC) --extra train
	@sh tests/install_peers.sh
	@nice $(BIN)/python -m benchmarks.soak --minutes $(MINUTES) $(ARGS)

lint: ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench-receive: setup ## receive speed beside storescp, Orthanc and pynetdicom (ROUNDS=5, ARGS="--sender storescu")
	@$(BIN)/python -m benchmarks.receive --rounds $(or $(ROUNDS),5) $(ARGS)

selftest: setup ## qualify the installation: the phantom against its known lesion
	@$(BIN)/dicom-node selftest

lock: $(UV) ## resolve the dependencies anew
	$(UV) lock --upgrade

clean: ## remove what make made
	rm -rf .venv .cache demo-out gallery-out site-out .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Where uv is not installed, pip puts it into the project's own environment.
$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
