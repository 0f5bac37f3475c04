# Every target is a line of pip or snakemake; none is needed to use the workflow.
# CORES=n sets how many cores a run takes (default: all), STUDY=file.yaml which study is reported and archived.

PYTHON ?= python3
CORES ?= all
STUDY ?= config.yaml
NAME = $(shell $(BIN)/python -c 'import sys, yaml; print(yaml.safe_load(open(sys.argv[1]))["study"])' $(STUDY))
BIN := .venv/bin

.PHONY: demo report archive test test-slurm lint install rulegraph

demo: install
	$(BIN)/snakemake --cores $(CORES)
	$(BIN)/python workflow_scripts/show_tables.py $(addprefix results/demo/tables/,codebooks.md shapes.md results.md)
	@echo "Tables: results/demo/tables/  figures: results/demo/figures/  report: make report, then results/demo/report.html"

report: install
	$(BIN)/snakemake --cores $(CORES) --configfile $(STUDY)
	$(BIN)/snakemake --configfile $(STUDY) --report results/$(NAME)/report.html

archive: install
	$(BIN)/snakemake --cores $(CORES) --configfile $(STUDY) -- archive

test: install
	$(BIN)/pytest --ignore=tests/slurm --numprocesses=2 --dist=loadfile

# A real SLURM on this machine (needs root and Debian's slurm-wlm and munge).
test-slurm: install
	$(BIN)/pytest tests/slurm

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/snakemake --lint

# The rule graph in the README (needs Graphviz' dot).
rulegraph: install
	$(BIN)/snakemake --forceall --rulegraph dot | dot -Tsvg > docs/rulegraph.svg

install: .venv/installed

.venv/installed: pyproject.toml envs/constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint envs/constraints.txt "torch==$(shell sed -n 's/^torch==//p' envs/constraints.txt)"
	$(BIN)/pip install --quiet --constraint envs/constraints.txt ".[dev]"
	touch $@
