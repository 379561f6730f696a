# Every target sets itself up: .venv is made from constraints.txt on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CORES := $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 8 ? n : 8)))

# Tests start hundreds of processes; without byte code each one compiles the project anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all test-fast lint format docs chaos chaos-quick mutants mutants-quick bench lock clean

demo: $(STAMP)  ## make a small real dataset and a few controls in out/demo with the embedded model
	$(BIN)/python jobs/generate.py --config jobs/configs/demo.yaml --control-fraction 0.25

# One process more than there are cores: the end-to-end tests wait for other processes most of the time.
test: $(STAMP)  ## every promise; 12 minutes on 2 cores
	$(BIN)/python -m pytest -m "not gpu and not variant" -n $$(($(CORES) + 1)) --dist loadfile

test-all: $(STAMP)  ## the same in every variant: each layout of ranks, each class of diffusers, each kill
	$(BIN)/python -m pytest -m "not gpu" --hypothesis-profile all -n $$(($(CORES) + 1)) --dist loadfile

test-fast: $(STAMP)  ## without the end-to-end tests and others of over half a second
	$(BIN)/python -m pytest -m "not gpu and not slow" -n $(CORES) --dist loadfile

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.docs  ## the documentation as a site in build/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

chaos: $(STAMP)  ## kill something at a random moment, 60 times, and check what is left; 30 min
	$(BIN)/python -m tests.chaos

chaos-quick: $(STAMP)  ## the same for five minutes
	$(BIN)/python -m tests.chaos --seconds 270

mutants: $(STAMP)  ## make small faults in the code of money, attempts, ids and plans; do tests notice? hours
	$(BIN)/python -m tests.mutants

mutants-quick: $(STAMP)  ## the same with 40 faults of each module
	$(BIN)/python -m tests.mutants --sample

bench: $(STAMP)  ## every benchmark, one after another; minutes each
	$(BIN)/python jobs/benchmark.py cache
	$(BIN)/python jobs/benchmark.py overhead
	$(BIN)/python jobs/benchmark.py batching
	$(BIN)/python jobs/benchmark.py calibration
	$(BIN)/python jobs/benchmark.py pipeline
	$(BIN)/python jobs/benchmark.py report
	$(BIN)/python jobs/benchmark.py metadata
	$(BIN)/python jobs/benchmark.py flat
	$(BIN)/python jobs/benchmark.py ablation
	$(BIN)/python jobs/benchmark.py quality --quick

# Byte code is made on all cores, which pip does on one, and not of files that few or none import;
# a file of torch is for a newer Python.
$(STAMP): pyproject.toml constraints.txt
	@echo "installing about 7 GB into $(VENV); this takes minutes, once"
	$(PYTHON) -m venv $(VENV)
	@(while sleep 20; do echo "  $$(du -shc $(VENV) $${TMPDIR:-/tmp}/pip-* 2>/dev/null | tail -1 | cut -f1)B of about 7 GB downloaded and unpacked"; done) & says=$$!; \
	  $(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'; \
	  ended=$$?; kill $$says; exit $$ended
	@echo "compiling byte code"
	@$(BIN)/python -m compileall -qq -j 0 -x '/(tests?|pip|transformers/models)/' $(VENV)/lib || true
	touch $@

$(VENV)/.docs: $(STAMP)
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[docs]'
	touch $@

lock: $(STAMP)  ## resolve pyproject.toml afresh into constraints.txt
	$(BIN)/pip install --quiet --dry-run --ignore-installed --report $(VENV)/lock.json '.[dev,quality,docs]'
	$(BIN)/python infra/lock.py $(VENV)/lock.json > constraints.txt

clean:
	rm -rf $(VENV)
