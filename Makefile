.PHONY: help setup up down status preview policy test check lint generate pipeline clean
STACK ?= dev
RUN = .ape/run

help: ## show this
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## set up what is missing, in .ape/
	@offline/setup.sh

up: setup ## the stack: preview, apply, measured summary
	@.ape/bin/ape-load up --stack $(STACK)

down: ## take the stack away, and the Docker daemon if we started it
	@offline/setup.sh
	@.ape/bin/ape-load down --stack $(STACK)
	@offline/docker.sh down

status: ## measure what runs
	@.ape/bin/ape-load status --stack $(STACK)

preview: ## what `up` would do; needs no Docker daemon
	@offline/setup.sh --no-docker
	@$(RUN) pulumi stack select --create $(STACK)
	@$(RUN) pulumi preview --stack $(STACK)

policy: ## previews of dev and prod, judged by the policies
	@scripts/pipeline.sh preview dev prod

generate: ## write what follows from the code: Pulumi.yaml's config, reference pages, image files
	@$(RUN) python -m ape_infra.automation.generate

lint: ## format, code, types, generated files, prose, workflows, scripts
	@scripts/pipeline.sh lint

test: setup lint ## every tier of the tests
	@$(RUN) pytest

test-unit: ## the quick tests, without Docker
	@offline/setup.sh --no-docker
	@$(RUN) pytest -m "unit or program"

pipeline: ## what every change goes through: lint, tests, previews
	@scripts/pipeline.sh lint
	@scripts/pipeline.sh test
	@scripts/pipeline.sh preview dev prod

clean: ## stop our Docker daemon, remove .ape/
	@offline/docker.sh down
	@rm -rf .ape services/wheels
