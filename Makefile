# Everything a person types is here; `make help` lists it.

VERSION  ?= 0.1.0-dev
COMMIT   ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
BLOCKSTORE ?= s3
DIR      ?= .run

VERSITYGW_VERSION   := v1.8.0
STATICCHECK_VERSION := v0.8.2

# One set of flags for builds and tests, so that they share one build cache:
# kubo and ipfs-cluster take minutes to compile and are compiled once.
export CGO_ENABLED := 0
export GOFLAGS     := -trimpath
pkg     := github.com/ipfs-aws/ipfs-aws/internal/version
ldflags := -s -w -X $(pkg).Version=$(VERSION) -X $(pkg).Commit=$(COMMIT)

# Packages that import neither kubo nor ipfs-cluster run under the race
# detector, which needs cgo and a second build of all they import.
race_packages := ./datastore/... ./internal/... ./cmd/local-cluster/...

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: bin/.versitygw-$(VERSITYGW_VERSION) ## build the binaries into bin/
	go build -ldflags '$(ldflags)' -o bin/ ./cmd/...

# versitygw is the real S3 server that `make run` and the tests talk to.
bin/.versitygw-$(VERSITYGW_VERSION):
	GOBIN=$(CURDIR)/bin go install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION)
	touch $@

.PHONY: run
run: build ## start the deployed topology on this machine (BLOCKSTORE=s3|efs|flatfs)
	exec bin/local-cluster up --dir $(DIR) --blockstore $(BLOCKSTORE)

.PHONY: test
test: build ## run everything: unit, conformance, fault and process-level tests
	CGO_ENABLED=1 go test -race -timeout 15m $(race_packages)
	go test -timeout 15m $$(go list ./... | grep -vE '/(datastore|internal|test)/|/cmd/local-cluster')
	go test -timeout 20m -p 1 -v ./test/...

.PHONY: test-quick
test-quick: build ## run the short tests, without the race detector
	go test -short -timeout 10m ./...

.PHONY: lint
lint: bin/.staticcheck-$(STATICCHECK_VERSION) ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l cmd cluster datastore internal plugin test benchmarks 2>/dev/null); \
	  test -z "$$unformatted" || { echo "not gofmt-ed: $$unformatted"; exit 1; }
	go vet ./...
	bin/staticcheck ./...

bin/.staticcheck-$(STATICCHECK_VERSION):
	GOBIN=$(CURDIR)/bin go install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
	touch $@

.PHONY: clean
clean: ## remove the binaries and what `make run` left in DIR
	rm -rf bin $(DIR)
