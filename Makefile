# make demo        set up and run the whole pipeline on the generated demo set
# make voc ROOT=VOCdevkit/VOC2012 [SBD=benchmark_RELEASE]
#                  check VOC 2012 as downloaded, add what it lacks for train_aug
# make test        set up and run the tests
# make test-slurm  the pipeline on a real SLURM, made up on this machine (root on Debian)
# make bench       time every stage beside the published algorithm, into docs/performance.md
# make bench-gpu   speed of the stages that run on a GPU, on made-up inputs
# make check       the quality gates: ruff, mypy, snakefmt, snakemake --lint
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: demo voc test test-slurm bench bench-gpu check docs clean

# Two trainings side by side, each on half of the cores: on few cores faster than one after the other.
HALF := $(shell echo $$(( ($$(nproc) + 1) / 2 )))
demo: $(VENV)/run
	snakemake --quiet rules --resources gpu=2 --set-threads train_classifier=$(HALF) \
	  train_affinity=$(HALF) train_segmenter=$(HALF) || \
	  { tail -n 20 "$$(ls -t logs/*/*.log logs/*/*/*.log | head -n 1)"; exit 1; }
	cat results/tables/demo.md results/tables/methods.md
	@echo "report: results/report.html"

voc: $(VENV)/run
	@test -n "$(ROOT)" || { echo "make voc ROOT=VOCdevkit/VOC2012 [SBD=folder]"; exit 2; }
	python workflow_scripts/prepare_voc.py --root "$(ROOT)" $(if $(SBD),--sbd "$(SBD)") --workers $$(nproc)

test: $(VENV)/dev
	pytest $(ARGS)

test-slurm: $(VENV)/dev
	pytest tests/slurm $(ARGS)

bench: $(VENV)/run
	OMP_NUM_THREADS=1 PYTHONPATH=workflow_scripts python benchmarks/performance.py $(ONLY)

bench-gpu: $(VENV)/run
	PYTHONPATH=workflow_scripts python benchmarks/gpu.py

check: $(VENV)/dev
	ruff check .
	ruff format --check .
	mypy workflow_scripts tests benchmarks
	snakefmt --check Snakefile rules
	snakemake --lint

docs: $(VENV)/run
	python workflow_scripts/write_settings_docs.py --output docs/settings.md

clean:
	rm -rf results checkpoints logs data/demo .snakemake

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "protoseg needs Python 3.11 or later"'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run: requirements.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

$(VENV)/dev: requirements-dev.txt requirements.txt | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@ $(VENV)/run
