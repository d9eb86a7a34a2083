# meshgate. `make up` and `make test` do all the set-up that they need; `make help` lists the targets.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
STACK ?= dev
# By the environment, so that a command may hold any quotes.
export CMD

.DEFAULT_GOAL := help
.PHONY: help up preview verify shell sim bench down clean test test-unit soak tools

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: tools ## set-up, toolchain, the lab, pulumi up of dev, and the probes with their table of outcomes
	@$(PY) -m lab up
	@$(PY) -m lab deploy dev
	@$(PY) -m lab run -- python -m verify --stack dev

preview: tools ## what `make up` would change
	@$(PY) -m lab up
	@$(PY) -m lab pulumi -s dev preview

verify: $(READY) ## the probes against the running lab (ONLY=T3,T4 selects)
	@$(PY) -m lab run -- python -m verify --stack dev $(if $(ONLY),--only $(ONLY))

shell: $(READY) ## a shell inside the lab's network, or one command: make shell CMD="kubectl get pods -A"
	@$(PY) -m lab $(if $(CMD),run -- bash -c "$$CMD",shell)

sim: tools ## preview, up, up again and destroy of an environment on simulated clouds: make sim STACK=dev
	@$(PY) -m lab sim $(STACK)

bench: tools ## measures, as ratios within one run
	@$(PY) -m bench

down: $(READY) ## ends the lab; nothing of it is left
	@$(PY) -m lab down

clean: down ## down, and everything made in this checkout (the cache of built programs stays)
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache

test: tools ## every test: lint, types, unit, engine, lab; the time of each part is printed
	@$(PY) -m tests

test-unit: $(READY) ## unit tests only; needs no toolchain
	@$(PY) -m tests unit

soak: tools ## what repeats, interrupts or takes long
	@$(PY) -m tests soak

tools: $(READY) ## Debian packages and the pinned programs, built once into a cache outside the checkout
	@$(PY) -m tools packages
	@$(PY) -m tools build

$(READY): requirements.txt requirements-dev.txt constraints.txt
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || apt-get install -y --no-install-recommends python3-venv
	@echo "installing Python packages into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	@touch $@
