# `make book` and `make test` are all a fresh clone needs: both first fill .venv from requirements.lock.
# Nothing here depends on an activated environment. Needs Python 3.11 or newer, git and make.
.DEFAULT_GOAL := help
.PHONY: help env book pdf serve test fuzz bench lint readme lock clean

PRESET ?= auto
PORT   ?= 8000
ARGS   ?=
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
UV    := $(VENV)/.uv/bin/uv

UV_HTTP_TIMEOUT ?= 300
UV_PYTHON_DOWNLOADS ?= never
export UV_HTTP_TIMEOUT UV_PYTHON_DOWNLOADS
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

book: env ## execute the notebooks and build the book into _build/html (PRESET=smoke|laptop|...; default auto)
	@$(BIN)/python -m mlp_lib book --preset "$(PRESET)"

pdf: env ## print the built book into _build/book.pdf (needs Chromium)
	@test -f _build/html/index.html || $(MAKE) --no-print-directory book
	@$(BIN)/python -m mlp_lib pdf

serve: env ## show the built book in a browser, on this machine only (PORT=8000)
	@test -f _build/html/index.html || $(MAKE) --no-print-directory book
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ]; then \
		(sleep 1; $(BIN)/python -m webbrowser "http://127.0.0.1:$(PORT)/" >/dev/null 2>&1) & fi; \
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html "$(PORT)"

test: env ## run the tests (ARGS="-m 'not slow'" for the quick ones)
	@$(BIN)/python -m pytest $(ARGS)

fuzz: env ## look for a traceback with inputs made up at random, 2 minutes (ARGS="--minutes 60 --seed 7")
	@$(BIN)/python tests/fuzz.py $(ARGS)

bench: env ## measure speed and memory on an idle machine, 4 minutes (ARGS=--check: fail when a promise is missed)
	@$(BIN)/python -m mlp_lib bench $(ARGS)

lint: env ## check the style of the code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

readme: env ## write the README's tables and the picture of the house
	@$(BIN)/python -m mlp_lib.book.readme

lock: env ## write requirements.lock from pyproject.toml (ARGS=--upgrade for newer versions)
	@uv=uv; $$uv --version >/dev/null 2>&1 || uv=$(UV); $$uv pip compile --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-emit-find-links --all-extras --quiet $(ARGS) \
		pyproject.toml -o requirements.lock

clean: ## delete what was built; keeps .venv, records and data
	rm -rf _build .pytest_cache .ruff_cache
	find . -name .venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

env: $(STAMP) ## make .venv (done by the others when needed)

# uv is taken from the PATH, or put by pip into a small environment of its own inside .venv.
$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or newer on the PATH; install one, or name it: make env PYTHON=/path/to/python3" >&2; exit 1; }
	@uv=uv; if ! $$uv --version >/dev/null 2>&1; then uv=$(UV); if ! $$uv --version >/dev/null 2>&1; then \
		"$(PYTHON)" -m venv --clear $(VENV)/.uv >/dev/null 2>&1 || { rm -rf $(VENV)/.uv; \
			echo "make: $(PYTHON) cannot make environments; install its venv module (Debian, Ubuntu: apt-get install python3-venv), or install uv" >&2; exit 1; }; \
		$(VENV)/.uv/bin/python -m pip install --quiet uv || exit 1; fi; fi; \
	set -e; \
	$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || \
		$$uv venv --quiet --allow-existing --python "$(PYTHON)" $(VENV); \
	$$uv pip install --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock; \
	$$uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
