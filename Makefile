.PHONY: help setup up down status preview policy generate docs pictures lint check test test-unit pipeline clean
STACK ?= dev
RUN = .ape/run

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing, into .ape/
	@offline/setup.sh

up: setup ## preview and apply the stack, and measure what runs
	@.ape/bin/ape-load up --stack $(STACK)

down: ## remove the stack, and stop the Docker daemon that `make setup` started
	@offline/setup.sh
	@.ape/bin/ape-load down --stack $(STACK)
	@offline/docker.sh down

status: ## measure what runs
	@.ape/bin/ape-load status --stack $(STACK)

preview: ## show what `up` would change; only the published plugin needs a daemon for it
	@offline/setup.sh --no-docker
	@$(RUN) pulumi stack select --create $(STACK)
	@$(RUN) pulumi preview --stack $(STACK)

policy: ## preview dev and prod with the policies
	@scripts/pipeline.sh preview dev prod

generate: ## write the generated files: config block of Pulumi.yaml, reference pages, image files
	@$(RUN) python -m ape_infra.automation.generate

docs: ## build the documentation as a site, in .ape/docs/site; a broken link fails
	@scripts/docs.sh

pictures: ## draw the pictures of README and docs from the newest run in results/
	@$(RUN) python scripts/pictures.py

lint: ## check format, code, types, generated files, prose, workflows and scripts
	@scripts/pipeline.sh lint

test: setup lint ## run every tier of the tests
	@$(RUN) pytest -m "unit or program"
	@$(RUN) pytest -n 4 -m "engine or e2e"

check: lint test-unit ## run the lint, unit and program tests, without Docker

test-unit: ## run the unit and program tests, without Docker
	@offline/setup.sh --no-docker --tests
	@$(RUN) pytest -m "unit or program"

pipeline: ## run the steps of CI: lint, tests, previews
	@scripts/pipeline.sh lint
	@scripts/pipeline.sh test
	@scripts/pipeline.sh preview dev prod

clean: ## stop the Docker daemon that `make setup` started, and remove .ape/
	@offline/docker.sh down
	@rm -rf .ape services/wheels
