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
# What runs the built binaries, one package at a time: each starts many processes.
# The whole S3 bill, beside go-ds-s3, takes 6 minutes and is `make test-bill`.
process_packages := ./test/cluster ./test/e2e ./test/efs ./test/node

# How long `make fuzz` spends on each decoder.
FUZZTIME ?= 30s

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
	go test -timeout 15m -run ConformanceOnServer ./datastore/s3ds -full
	go test -timeout 15m $$(go list ./... | grep -vE '/(datastore|internal|test)/|/cmd/local-cluster')
	go test -timeout 25m -p 1 -v $(process_packages)
	go test -timeout 10m -short -v ./test/s3

.PHONY: test-bill
test-bill: build ## count every row of the S3 bill beside go-ds-s3, kill and replace writers
	go test -timeout 20m -v ./test/s3

# The fuzzer of Go 1.26 now and then fails with nothing but "context deadline
# exceeded" when its time is up; a finding leaves a file in testdata/fuzz.
.PHONY: fuzz
fuzz: ## fuzz every decoder of what lies on disk or in the bucket, FUZZTIME each
	@grep -rlE '^func Fuzz' --include='*_test.go' datastore | xargs -n1 dirname | sort -u | while read -r dir; do \
	  for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9]+' $$dir/*_test.go | sed 's/func //'); do \
	    echo "fuzz ./$$dir $$f"; \
	    run() { go test -run='^$$' -fuzz="^$$f\$$" -fuzztime=$(FUZZTIME) ./$$dir </dev/null; }; \
	    run || { test ! -e "$$dir/testdata/fuzz/$$f" && run; } || exit 1; \
	  done; \
	done

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
