# `make help` lists the targets. `make demo` and `make test` need Go, make and git;
# what else they need, `make deps` installs or names.

SHELL := /bin/bash
GO ?= go
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -X github.com/cellway/cellway/infra/run.Version=$(VERSION)
CMDS := ./directory/cmd/... ./router/cmd/... ./cell/cmd/... ./infra/cmd/... ./loadtest/cmd/...
TOOLS := bin/tools

.PHONY: help deps build test short check lint fmt generate model chaos blast up down demo bench fuzz clean

help: ## list the targets
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

deps: ## install what is needed besides Go, make and git (Debian), or say what is missing
	@./infra/deps.sh

build: ## build every binary into bin/
	@mkdir -p bin && $(GO) build -ldflags '$(LDFLAGS)' -o bin/ $(CMDS)

demo: deps build ## start the whole product, put it to work, break it, and print what held
	@bin/cellway demo $(ARGS)

test: deps build ## every test, with the race detector, in random order; allocations are counted without it
	@./infra/deps.sh origins || echo "TestOrigins goes without those; CI does not" >&2
	BIN_DIR=$(CURDIR)/bin $(GO) test -race -shuffle=on -vet=off -timeout 20m ./... # lint vets
	$(GO) test -run Allocates ./router ./router/h1 # the race detector allocates itself

short: ## the tests that need no server, in under half a minute
	$(GO) test -short ./...

check: deps lint model test demo chaos ## what CI's job check runs
	@./infra/deploy/compose-smoke.sh

lint: $(TOOLS)/staticcheck ## formatting, vet, staticcheck
	@out=$$($(TOOLS)/gofumpt -l $$(git ls-files '*.go' ':!*_gen.go')); [ -z "$$out" ] || { echo "not gofumpt-ed: $$out"; exit 1; }
	$(GO) vet ./...
	$(TOOLS)/staticcheck ./...

fmt: $(TOOLS)/staticcheck ## format all Go code
	$(TOOLS)/gofumpt -w $$(git ls-files '*.go' ':!*_gen.go')

generate: $(TOOLS)/staticcheck ## make the generated code again
	PATH=$(CURDIR)/$(TOOLS):$$PATH $(GO) generate ./...

$(TOOLS)/staticcheck: infra/tools/go.mod
	@mkdir -p $(TOOLS) && cd infra/tools && $(GO) build -o ../../$(TOOLS)/ tool && touch ../../$@

model: ## explore the model of the live move; every seeded bug must be found
	@./infra/model.sh

chaos: deps build ## move tenants while every part of the stack is killed; ARGS="--kills 1000" goes on for long
	@bin/loadtest chaos $(ARGS)

blast: build ## break one cell of eight and measure what the others notice; ARGS=--quick for a look
	@bin/loadtest blast $(ARGS)

fuzz: ## each fuzz target for FUZZTIME (default 30s)
	@./infra/fuzz.sh $${FUZZTIME:-30s}

bench: deps build ## the figures of docs/BENCHMARKS.md, measured again
	@bin/loadtest bench $(ARGS)

bench-%: deps build ## bench-move: the live move; bench-peers: the router beside nginx and others; ARGS=--quick for a look
	@./infra/deps.sh $*
	@bin/loadtest $@ $(ARGS)

up: deps build ## start the whole product on this machine and keep it running
	@bin/cellway up $(ARGS)

down: ## stop what `make up` left behind
	@bin/cellway down $(ARGS)

clean: ## remove what was built
	rm -rf bin
