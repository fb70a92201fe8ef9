# Every command of the book. `make help` lists them. Nothing here is newer than GNU make 3.81 (macOS).

PYTHON ?= python3
PORT ?= 8000
# A Python that the reader names is insisted on; the default one is not, once there is an environment.
NAMED := $(if $(filter file default undefined,$(origin PYTHON)),,--named)
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help environment book serve test execute machines mutants newest original torch gpflow wheel bench shots links lock clean

help: ## list the commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 16

environment:
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
	  echo ".venv: there is no $(PYTHON) here. Install Python 3.11 to 3.14, or name one: make book PYTHON=python3.12." >&2; \
	  exit 1; }
	@"$(PYTHON)" scripts/environment.py $(NAMED)

book: environment ## build the book, every warning an error, and say how to open it
	@$(BIN)/jupyter-book build . --all -W -n --keep-going --quiet
	@echo "The book is built. Open _build/html/index.html, or run: make serve"

serve: environment ## serve the book on localhost (PORT=8000) and print the address
	@test -f _build/html/index.html || $(MAKE) book
	@$(BIN)/python scripts/serve.py $(PORT)

test: book ## build the book, then run every notebook (nbval), and the tests
	@$(BIN)/python -m pytest

execute: environment ## run every notebook and store its outputs (NOTEBOOKS=book/01-... for one)
	@$(BIN)/python scripts/notebooks.py $(NOTEBOOKS)

machines: environment ## run the notebooks as another machine would: one core, an old processor (XLA=... BLAS=...)
	@$(BIN)/python scripts/machines.py $(if $(XLA),--xla=$(XLA)) $(if $(BLAS),--blas=$(BLAS))

mutants: environment ## break each main claim and the package: is it noticed? (CHAPTER=01 for one, ALL=1 for all)
	@$(BIN)/python tests/mutants/run.py $(CHAPTER) $(if $(ALL),--all) $(if $(AGAIN),--again $(AGAIN))
	@$(if $(CHAPTER),,$(BIN)/python -m pytest -q -m planted tests)

newest: environment ## run the notebooks with the newest Python and libraries (UNLOCKED=1: not even locked)
	@$(BIN)/python scripts/newest.py $(if $(UNLOCKED),--unlocked)

original: environment ## run the post's listings on flax 0.1.0 and compare every number with the chapters
	@$(BIN)/python scripts/original.py

torch: environment ## run the translation's tasks in PyTorch (about 1 GB) and compare every number with the recorded one
	@$(BIN)/python scripts/pytorch.py $(if $(RECORD),--record)

gpflow: environment ## run the scripts in GPflow (1.8 GB), compare every number with the recorded one (SCRIPT=post for one)
	@$(BIN)/python scripts/gpflow_runs.py $(SCRIPT) $(if $(RECORD),--record)

wheel: environment ## build the package's wheel and try it where there is only pip (needs a network)
	@$(BIN)/python scripts/wheel.py

bench: environment ## what the package costs beside plain JAX, GPflow and GPJax (not part of CI; RECORD=1 writes a JSON)
	@PYTHONPATH=book $(BIN)/python scripts/bench.py
	@$(BIN)/python scripts/bench_gp.py $(if $(RECORD),--record)

shots: book ## take a picture of every page, light and dark, desktop and phone, into _build/shots
	@$(BIN)/python scripts/shots.py

links: environment ## ask every outside link of the book whether it still answers (needs a network)
	@$(BIN)/jupyter-book build . --all --keep-going --builder linkcheck --path-output _build/links

lock: environment ## make the locks again from the requirements*.in (UPGRADE=1: newer versions)
	@$(BIN)/python scripts/lock.py $(if $(UPGRADE),--upgrade)

clean: ## delete the built site and the environments
	rm -rf _build .venv .venv-newest .venv-original .venv-torch .venv-gpflow .mypy_cache .pytest_cache .ruff_cache
