# One command for one intention; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help install repro test test-ordinary lint lock deps encoder bench systems clean

PYTHON ?= python3
VENV ?= .venv
RUN := PATH="$(CURDIR)/$(VENV)/bin:$$PATH"

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/installed  ## create the environment (.venv, or VENV=path of one you have)

# An environment with torch and torchvision keeps its builds: the pins of those two are then left out.
$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	if $(VENV)/bin/python -c 'import torch, torchvision' 2>/dev/null; then \
	  grep -vE '^(torch|torchvision)==' constraints.txt; else cat constraints.txt; fi > $(VENV)/constraints.txt
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c $(VENV)/constraints.txt -e '.[test]'
	touch $@

repro: install  ## run the whole pipeline: data, features, training, scores, report
	@git rev-parse --is-inside-work-tree >/dev/null 2>&1 || $(RUN) dvc config --local core.no_scm true  # from an archive
	$(RUN) dvc repro

test: install  ## run the tests, on every core (4 to 12 minutes on two)
	@echo "Running the test suite on every core; it takes 4 to 12 minutes on two."
	$(RUN) python -m pytest --numprocesses auto --dist worksteal

test-ordinary: install  ## run the tests of networks and training as on a processor without AVX-512 and bf16
	@echo "Running the tests of networks and training with an ordinary processor's kernels; about 2 minutes on two cores."
	$(RUN) ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 python -m pytest --numprocesses auto --dist worksteal \
	  tests/test_precision.py tests/test_decoders.py tests/test_decoder_options.py tests/test_transformer.py \
	  tests/test_training.py tests/test_training_words.py tests/test_optimisation.py tests/test_caption_task.py \
	  tests/test_encoders.py tests/test_detection.py tests/test_search.py tests/test_stages.py tests/test_benchmarks_plain.py

lint: install  ## check the style and the types
	$(RUN) ruff check .
	$(RUN) mypy src stages

lock: install  ## check that dvc.lock is in step with params.yaml and the code
	$(RUN) python tests/lock.py

deps: install  ## rewrite the code that dvc.yaml lists for each stage, after imports changed
	$(RUN) python tests/import_graph.py

encoder: install  ## train the encoder that comes with the embedded dataset again (an hour or more)
	$(RUN) python -m showtell.commands.scenes_encoder

bench: install  ## measure every claim of docs/performance.md and rewrite its table
	$(RUN) python benchmarks/run.py

systems: install  ## run every published system on the embedded dataset and rewrite the table of docs/systems.md
	$(RUN) python benchmarks/systems.py

clean:  ## remove unfinished work and byte-code; downloads, data, metrics and the environment stay
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	if [ -d work ]; then find work -mindepth 1 -maxdepth 1 ! -name downloads -exec rm -rf {} +; fi
	find src stages tests benchmarks -name __pycache__ -type d -exec rm -rf {} +
