# Every target first sets up the virtual environment. Each line calls a tool or a Python module.
PYTHON ?= python3.11
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/requirements.sha256
REQUIREMENTS := requirements/dev.txt
# For all Pythons that pyproject.toml allows.
COMPILE := $(RUN) -m uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-header

# Where the jobs run on a standalone cluster. Its workers are killed before they save what they have measured.
ON_CLUSTER := $(addprefix tests/integration/test_,cluster_logs.py flink_cluster.py patience.py pipeline.py security.py)

# Without bytecode, every Python process compiles all that it imports, and the tests start hundreds of them.
unexport PYTHONDONTWRITEBYTECODE

# NODES=3 starts three Cassandra nodes and three Kafka brokers.
ifdef NODES
export SUNBIRD_LOCAL_CASSANDRA_NODES := $(NODES)
export SUNBIRD_LOCAL_KAFKA_BROKERS := $(NODES)
endif

.DEFAULT_GOAL := help
.PHONY: help demo desk test unit coverage check format bench chaos up down status lock setup

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## run the jobs on a local Kafka, Cassandra, Redis and Flink cluster, and check their results (NODES=3)
	$(RUN) -m local.demo

desk: setup ## run the demo, and then serve the support desk on its data until Ctrl-C
	$(RUN) -m local.demo --desk

# The order of the folders is that in which the two processes take the groups: the large ones first, to end together.
test: setup ## run all tests, which start and stop real servers
	$(RUN) -m pytest --numprocesses 2 --no-loadscope-reorder tests/faults tests/integration tests/clusters tests/unit

unit: setup ## run the tests that need no servers, in two or three minutes
	$(RUN) -m pytest tests/unit

coverage: setup ## measure the branch coverage of the tests that need no standalone Flink cluster
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest --numprocesses 2 tests/unit tests/integration $(addprefix --ignore=,$(ON_CLUSTER))
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report

check: setup ## check format, lint, types, import rules and Dockerfiles
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --config pyproject.toml
	$(VENV)/bin/hadolint deploy/docker/Dockerfile deploy/docker/readers.Dockerfile

format: setup ## format the code
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

bench: setup ## measure events/s, CPU and latency on a real cluster, and compare with the plain driver
	$(RUN) -m benchmarks

chaos: setup ## kill, pause and rescale everything under load, then compare rows and messages (SEEDS="1 2 3" NODES=1)
	$(RUN) -m chaos $(if $(NODES),--nodes $(NODES)) $(if $(SEEDS),--seeds $(SEEDS))

up: setup ## start the local servers and the Flink cluster in the background (NODES=3)
	$(RUN) -m local up

down: setup ## stop what `make up` has started
	$(RUN) -m local down

status: setup ## show what is running
	$(RUN) -m local status

# Beam imports pandas where it is installed, which is 40 MiB per worker. The jobs do not use it.
lock: setup ## rewrite requirements/*.txt from pyproject.toml
	$(COMPILE) --all-extras -o requirements/dev.txt
	$(COMPILE) -c requirements/dev.txt --extra jobs --no-emit-package pandas -o requirements/jobs.txt
	$(COMPILE) -c requirements/dev.txt --extra services -o requirements/services.txt
	$(COMPILE) -c requirements/dev.txt --extra reports -o requirements/reports.txt
	$(COMPILE) -c requirements/dev.txt --extra desk -o requirements/desk.txt

setup: $(STAMP) ## create the virtual environment with all locked packages

# pip only installs uv, with the hash from the requirements; uv installs the rest faster and compiles on all cores. Without
# --python it would install into another virtual environment that is active.
# The stamp is written last, so that an interrupted installation is repeated.
$(STAMP): $(REQUIREMENTS)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or 3.12 is needed: $(PYTHON) is not on the PATH (set PYTHON=...)" >&2; exit 1; }
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	awk '/^[a-z]/ {is_uv = /^uv==/} is_uv' $(REQUIREMENTS) > $(VENV)/uv.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.txt
	$(RUN) -m uv pip sync --python $(RUN) --quiet --require-hashes --compile-bytecode $(REQUIREMENTS)
	sha256sum $(REQUIREMENTS) > $(STAMP)
