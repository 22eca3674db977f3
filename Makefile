# virt-toolkit: the verbs. `make help` names them. Each sets up what it needs first.
PYTHON ?= python3
VENV   ?= .venv
STORE  ?= store
OUT    ?= reports
# SYSTEM=no leaves the system's packages alone, also as root.
SYSTEM ?= yes
# How many workers share all the tests: two where there are two processors. Some tests (TESTS=…) begin sooner without (0).
JOBS   ?= $(if $(TESTS)$(filter 1,$(shell nproc)),0,2)

SET_UP = PYTHON='$(PYTHON)' VENV='$(VENV)' SYSTEM='$(SYSTEM)' scripts/set-up.sh
BIN    = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help report test lab lint bench lock reference wheel clean

help: ## say what there is
	@echo 'virt-toolkit'
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20
	@echo 'Settings: PYTHON=$(PYTHON) VENV=$(VENV) STORE=$(STORE) OUT=$(OUT) SYSTEM=$(SYSTEM) JOBS=$(JOBS)'

report: ## measure this machine and write reports/index.html
	@$(SET_UP) report
	@$(BIN)/toolkit measure --store '$(STORE)'
	@$(BIN)/toolkit report --store '$(STORE)' --out '$(OUT)'

test: ## run all tests (those that need root only as root)
	@$(SET_UP) test
	@$(BIN)/python -m pytest -n $(JOBS) $(TESTS)

lab: ## open JupyterLab on the notebooks, with the store in place, else the reference store
	@$(SET_UP) report
	@$(BIN)/toolkit notebooks $(if $(wildcard $(STORE)),--store '$(STORE)')

lint: ## ruff, mypy --strict, import-linter, stripped notebooks
	@$(SET_UP) report
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --no-cache
	@$(BIN)/nbstripout --verify notebooks/*.ipynb

bench: ## measure the toolkit itself against its peers; prints a table
	@$(SET_UP) bench
	@$(BIN)/python -m tests.benchmarks --out '$(OUT)/bench.json'

lock: ## resolve the dependencies anew into requirements.lock
	@$(SET_UP) report
	@$(BIN)/uv --quiet pip compile --universal --python-version 3.11 --upgrade \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	    --group pyproject.toml:test --group pyproject.toml:lint --group pyproject.toml:build \
	    pyproject.toml --output-file requirements.lock > /dev/null
	@$(BIN)/uv --quiet pip compile --universal --python-version 3.11 --upgrade \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	    --group pyproject.toml:bench --output-file requirements-bench.lock > /dev/null
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["libvirt"], sep="\n")' | \
	    $(BIN)/uv --quiet pip compile --universal --python-version 3.11 --upgrade \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
	    - --output-file requirements-libvirt.lock > /dev/null

reference: ## record data/reference anew on this machine (PART=machine or lab: that alone)
	@$(SET_UP) report
	@$(BIN)/python scripts/record_reference.py $(PART)
	@$(BIN)/python scripts/draw_picture.py

wheel: ## build dist/virt_toolkit-*.whl
	@$(SET_UP) report
	@$(BIN)/python -m build --no-isolation --wheel

clean: ## remove what the verbs made here, except the store and the reports
	rm -rf '$(VENV)' dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
