# What a user and a developer can do. `make help` lists it.
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PRODUCTS ?=
SBOM ?= build/rs-delivery.cdx.json
# How the stand-in rs-order is set up: RS_ORDER='suborder_files=2 restore_seconds=3'.
RS_ORDER ?=
SWITCHES = $(foreach switch,$(RS_ORDER),--rs-order '$(switch)')
# What is played on S3 servers of other makes.
STORES := $(addprefix tests/integration/test_,s3_abilities.py object_store.py archiver.py resume.py files.py)
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	--python-version 3.11
# What looks at the program from outside has an environment of its own.
CHECKS := .tools/checks/.ready
# And so has what makes a site of the docs.
SPHINX := .tools/sphinx/.ready
SITE ?= build/site
# uv is told what pip is told.
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif
ifdef PIP_CERT
export SSL_CERT_FILE ?= $(PIP_CERT)
endif
# Copied, not linked to uv's cache: luqum writes its tables into its own folder, others' tables too.
INSTALL := $(BIN)/uv pip install --quiet --link-mode copy --python $(BIN)/python
# A Python by its file and version; the one that is asked for may be another than the environment's.
WHICH := import sys; print(sys.base_prefix, sys.version_info[:3])

.PHONY: help setup demo up simulate simulate-proof test test-unit test-pythons test-kafka test-stores test-outages check quick steady sbom audit digests chart chart-tools model lint types imports bench bench-forms bench-burst bench-memory bench-latency bench-stages bench-fetch-wait bench-threshold bench-wakes bench-plan bench-statements bench-quick bench-notify bench-tiny bench-round-trips bench-scale bench-queue bench-workers bench-handover bench-checkpoints bench-suborders bench-parked bench-sse bench-loop bench-start bench-web chaos screenshots format docs documented record lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

setup: $(READY) ## Install what is missing: Debian's RabbitMQ, a virtual environment, dependencies
	@sh compose/embedded/setup.sh
	@sh compose/embedded/openssh.sh .tools/openssh
	@$(BIN)/python -m compose.embedded.fake_gcs

ifneq ($(origin PYTHON),file)
ifneq ($(shell $(PYTHON) -c '$(WHICH)'),$(shell { $(BIN)/python -c '$(WHICH)'; } 2>/dev/null))
.PHONY: $(READY)
endif
endif

$(READY): requirements/dev.txt requirements/uv.txt pyproject.toml hatch_build.py sinks/_digest.h sinks/_md5pair.c sinks/_sha256.c
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "setup: $(PYTHON) is older than 3.11; set PYTHON=/path/to/a/newer/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || sh compose/embedded/setup.sh python3-venv
	@echo "setup: making $(VENV) with the locked dependencies"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(INSTALL) --compile-bytecode --require-hashes -r requirements/dev.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@$(BIN)/python -c 'import luqum.parser'  # it writes its tables when it is imported first
	@$(BIN)/python -c 'import sinks._md5pair, sinks._sha256' 2>/dev/null || echo "setup: no C compiler or no headers of" \
		"Python (gcc, python3-dev): archives are digested in two passes; the same bytes, slower," \
		"and a transfer that breaks off begins again from its first file"
	@touch $@

$(CHECKS): requirements/tools.txt $(READY)
$(SPHINX): requirements/docs.txt $(READY)
$(CHECKS) $(SPHINX):
	@$(BIN)/uv venv --quiet --clear $(dir $@)
	@$(BIN)/uv pip install --quiet --link-mode copy --python $(dir $@)bin/python --require-hashes -r $<
	@touch $@

demo: setup ## Deliver sample products for real and check the archive (PRODUCTS=/folder for your own)
	@$(BIN)/python -m compose.demo $(if $(PRODUCTS),--products "$(PRODUCTS)") $(SWITCHES)

up: setup ## Keep the whole stack and the service in the foreground until Ctrl-C
	@$(BIN)/python -m compose.up $(if $(PRODUCTS),--products "$(PRODUCTS)") $(SWITCHES)

test: setup ## Run all tests, several side by side, each on a stack of its own
	@$(BIN)/python -m pytest -n auto

test-unit: setup
	@$(BIN)/python -m pytest -q tests/unit tests/store -m "not stack"

test-pythons: setup ## Unit tests on each other of Python 3.11, 3.12, 3.13 that is here
	@sh .ci/pythons

test-kafka: setup ## Integration tests on Apache Kafka itself (needs Java 17 and Maven)
	@$(BIN)/python -m compose.embedded.apache_kafka $(BIN)/python -m pytest $(or $(TESTS),tests/integration)

test-stores: setup ## The S3 adapter, and whole deliveries, on S3 servers of other makes (needs Go; MAKES="versitygw")
	@MAKES="$(MAKES)" $(BIN)/python -m compose.embedded.s3_servers $(BIN)/python -m pytest -q $(or $(TESTS),$(STORES))

test-outages: setup ## Every dependency away for long, in the middle and at start (SECONDS=60)
	@OUTAGE_SECONDS=$(or $(SECONDS),60) $(BIN)/python -m pytest tests/integration/test_outages.py

check: setup ## Style, types, layers and all tests: what CI runs (PYTHON=python3.13 takes another)
	@$(MAKE) --no-print-directory -j4 lint types imports test

quick: setup ## Style, types, layers and unit tests, within a minute
	@$(MAKE) --no-print-directory -j4 lint types imports test-unit

steady: setup ## All tests in a drawn order beside a busy core (SEED=…)
	@$(BIN)/python -m tests.steady $(SEED)

sbom: $(CHECKS) ## Write what the service is built of, as CycloneDX (SBOM=build/rs-delivery.cdx.json)
	@mkdir -p $(dir $(SBOM))
	@PYTHONWARNINGS=ignore $(dir $(CHECKS))bin/cyclonedx-py requirements --pyproject pyproject.toml \
		--output-reproducible -o $(SBOM) requirements/runtime.txt

audit: $(CHECKS) ## Look whether flaws of the locked dependencies are known (AUDIT=required fails where it can't)
	@$(BIN)/python -m compose.audit $(dir $(CHECKS))bin/pip-audit requirements/runtime.txt

digests: ## Print docker-compose.yml with each image by its digest, as its registry tells it now (needs Docker)
	@docker compose -f compose/docker-compose.yml --profile monitoring config --resolve-image-digests

chart-tools: setup $(CHECKS)
	@$(BIN)/python -m compose.embedded.kubernetes

chart: chart-tools ## Check the Helm chart: helm, kubeconform (needs Go; the first time, that builds them)
	@$(BIN)/python -m pytest -q tests/unit/test_chart.py

model: setup ## Visit every state of the protocol's model (needs Debian's spin, and gcc)
	@$(BIN)/python -m pytest -q tests/model

lint: setup ## Style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## Static types
	$(BIN)/mypy

imports: setup ## The contract of layers
	$(BIN)/lint-imports

bench-burst: setup ## Time one tenant's request behind a burst of another's (REQUESTS=10000)
	@$(BIN)/python -m tests.bench.burst --requests $(or $(REQUESTS),10000)

bench: setup ## The data path beside a plain copy and other ways (SIZE=2048 MiB, ROUNDS=5; long)
	@$(BIN)/python -m tests.bench.path --check --write --size $(or $(SIZE),2048) --rounds $(or $(ROUNDS),5)

bench-forms: setup ## Each form to each place, and many small files as objects (SIZE=512 MiB, ROUNDS=5, PLACES=s3)
	@$(BIN)/python -m tests.bench.forms --size $(or $(SIZE),512) --rounds $(or $(ROUNDS),5) $(PLACES)

bench-stages: setup ## How fast MD5, SHA-256, CRC and deflate are alone
	@$(BIN)/python -m tests.bench.stages

bench-memory: setup ## Memory of a transfer for growing archives (SIZES="1 8 32", GiB; KIND=incompressible)
	@$(BIN)/python -m tests.bench.memory --kind $(or $(KIND),incompressible) $(or $(SIZES),1 8 32)

bench-latency: setup ## Tiny deliveries through the whole stack (DELIVERIES=500)
	@$(BIN)/python -m tests.bench.latency --deliveries $(or $(DELIVERIES),500)

bench-fetch-wait: setup ## What a fetch that is held back costs a tiny delivery and spares a worker at rest (DELIVERIES=15)
	@$(BIN)/python -m tests.bench.fetch_wait --deliveries $(or $(DELIVERIES),15)
	@$(BIN)/python -m compose.embedded.apache_kafka $(BIN)/python -m tests.bench.fetch_wait --deliveries $(or $(DELIVERIES),15)

bench-threshold: setup ## What compressing rasters costs and spares, and what their samples say
	@$(BIN)/python -m tests.bench.threshold

bench-wakes: setup ## How long a delivery waits where one of two workers is full (DELIVERIES=20)
	@$(BIN)/python -m tests.bench.wakes --deliveries $(or $(DELIVERIES),20)

bench-suborders: setup ## An order of many suborders, two restored at a time (SUBORDERS=40)
	@$(BIN)/python -m tests.bench.suborders --suborders $(or $(SUBORDERS),40)

bench-parked: setup ## What many archives that wait for a suborder hold of a worker (DELIVERIES=100)
	@$(BIN)/python -m tests.bench.parked --deliveries $(or $(DELIVERIES),100)

bench-plan: setup ## What planning a large order holds: the loop, memory, time (FILES="100000 1000000", PAGE=100)
	@$(BIN)/python -m tests.bench.plan --page $(or $(PAGE),100) $(or $(FILES),100000 1000000)

bench-statements: setup ## Count the statements of a delivery, with each of what its client may get
	@$(BIN)/python -m tests.bench.statements

bench-round-trips: setup ## Count the statements of a tiny delivery, from its request to DONE (DELIVERIES=20)
	@$(BIN)/python -m tests.bench.round_trips --deliveries $(or $(DELIVERIES),20)

bench-quick: setup ## Count what a tiny delivery costs, and a file; fails when a count grew (KEEP=1 keeps what is found)
	@$(BIN)/python -m tests.bench.quick $(if $(KEEP),--keep)

bench-notify: setup ## Whether commits that notify workers hold each other up (SECONDS=2)
	@$(BIN)/python -m tests.bench.notify --seconds $(or $(SECONDS),2)

bench-tiny: setup ## What the thread of a tiny archive costs, of all that making it does
	@$(BIN)/python -m tests.bench.tiny

bench-scale: setup ## What each operation costs PostgreSQL as tenants, deliveries, workers grow (LIMIT=10000: fewer, nothing is kept)
	@$(BIN)/python -m tests.bench.scale $(if $(LIMIT),--limit $(LIMIT),--write)

bench-queue: setup ## What many requests at once cost: time, memory, database (REQUESTS=10000)
	@$(BIN)/python -m tests.bench.scale_queue --requests $(or $(REQUESTS),10000)

bench-workers: setup ## What more workers add, at a slow source (WORKERS="1 2 4")
	@$(BIN)/python -m tests.bench.scale_workers $(or $(WORKERS),1 2 4)

bench-handover: setup ## What is sent and fetched again when a worker ends at 90 % (SIZE=2048 MiB, FILE=64)
	@$(BIN)/python -m tests.bench.handover --size $(or $(SIZE),2048) --file $(or $(FILE),64) \
		$(if $(S3),--s3 $(S3))

bench-checkpoints: setup ## What checkpoints cost an undisturbed transfer (SIZE=2048 MiB, ROUNDS=9)
	@$(BIN)/python -m tests.bench.checkpoints --size $(or $(SIZE),2048) --rounds $(or $(ROUNDS),9)

bench-sse: setup ## What many readers of events cost the transfers (READERS=1000)
	@$(BIN)/python -m tests.bench.sse --readers $(or $(READERS),1000)

bench-loop: setup ## How long the event loop is held by what is large, by case (ONLY="a request")
	@$(BIN)/python -m tests.bench.loop --only "$(ONLY)"

bench-start: setup ## Time a start on a stack that is up, and the command line (ROUNDS=9)
	@$(BIN)/python -m tests.bench.start --rounds $(or $(ROUNDS),9)

bench-web: setup ## Time GET /settings beside two transfers in the same process (SECONDS=20)
	@$(BIN)/python -m tests.bench.web --seconds $(or $(SECONDS),20)

simulate: setup ## Nights in memory until one fails (SEEDS=1000, TIME=seconds, KIND=any), or one again (SEED=n)
	@$(BIN)/python -m tests.simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000)) \
		$(if $(TIME),--time $(TIME)) $(if $(FIRST),--first $(FIRST)) $(if $(KIND),--kind $(KIND))

simulate-proof: setup ## Put known defects back, one after the other: a night has to see each (SEEDS=2000, DEFECTS=part of a name, KEEP=1)
	@$(BIN)/python -m tests.simulation.defects --seeds $(or $(SEEDS),2000) $(if $(KEEP),--keep) $(if $(DEFECTS),"$(DEFECTS)")

chaos: setup ## Deliveries under faults, three workers (DELIVERIES=200, SEED=…, SECONDS=…)
	@$(BIN)/python -m tests.chaos --deliveries $(or $(DELIVERIES),200) \
		$(if $(SEED),--seed $(SEED)) $(if $(SECONDS),--seconds $(SECONDS))

screenshots: setup ## Take the pictures in docs/console again (needs chromium); what looks as before stays
	@SCREENSHOTS=1 $(BIN)/python -m pytest -q tests/browser/test_pictures.py

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: documented $(SPHINX) ## Build the documentation as a site; any warning is an error (SITE=build/site)
	@$(dir $(SPHINX))bin/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env -b html docs $(SITE)
	@$(BIN)/python -m tests.site $(SITE)
	@echo "docs: $(SITE)/index.html"

documented: setup ## Write docs/asyncapi.json, docs/schemas, and what else is made of the program
	@$(BIN)/delivery asyncapi --schemas docs/schemas > docs/asyncapi.json
	@$(BIN)/python -m tests.documented

record: setup ## Record what is on a wire and at rest, after a deliberate change of it
	@$(BIN)/python -m tests.recorded

lock: setup ## Resolve the dependencies again (names, versions and hashes; for every Python)
	$(LOCK) --upgrade pyproject.toml -o requirements/runtime.txt
	$(LOCK) --upgrade --extra dev --extra build -c requirements/runtime.txt \
		pyproject.toml -o requirements/dev.txt
	echo uv | $(LOCK) -c requirements/dev.txt - -o requirements/uv.txt
	echo hatchling | $(LOCK) -c requirements/dev.txt - -o requirements/build.txt
	printf 'cyclonedx-bom\nkubernetes-validate\npip-audit\n' | \
		$(LOCK) --upgrade -c requirements/dev.txt - -o requirements/tools.txt
	printf 'furo\nmyst-parser\nsphinx\n' | \
		$(LOCK) --upgrade -c requirements/dev.txt - -o requirements/docs.txt

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
