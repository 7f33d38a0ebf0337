# Everything a person types is here; `make help` lists it.

VERSION  ?= 0.1.0-dev
COMMIT   ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
BLOCKSTORE ?= s3
DIR      ?= .run

comma := ,
VERSITYGW_VERSION   := v1.8.0
STATICCHECK_VERSION := v0.8.2

# One Go and one set of flags for builds and tests, so that they share one build
# cache: kubo and ipfs-cluster take minutes to compile and are compiled once.
export GOTOOLCHAIN ?= $(shell sed -n 's/^toolchain //p' go.mod)
export CGO_ENABLED := 0
export GOFLAGS     := -trimpath
pkg     := github.com/ipfs-aws/ipfs-aws/internal/version
ldflags := -s -w -X $(pkg).Version=$(VERSION) -X $(pkg).Commit=$(COMMIT)

# Packages that import neither kubo nor ipfs-cluster run under the race
# detector, which needs cgo and a second build of all they import.
race_packages := ./datastore/... ./cmd/local-cluster/...
# What runs the built binaries, one package at a time: each starts many processes.
# The whole S3 bill, beside go-ds-s3, takes 6 minutes and is `make test-bill`;
# the migrations that are killed for 6 minutes are `make test-kill`, the deployments
# of the templates, for up to 13, `make test-templates`.
process_packages := ./test/e2e ./test/efs ./test/images ./test/node

# How long `make fuzz` spends on each decoder.
FUZZTIME ?= 30s

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: bin/.versitygw-$(VERSITYGW_VERSION) ## build the binaries into bin/
	go build -ldflags '$(ldflags)' -o bin/ ./cmd/...
	cd cluster && go build -ldflags '$(ldflags)' -o ../bin/ ./cmd/...

# versitygw is the real S3 server that `make run` and the tests talk to.
bin/.versitygw-$(VERSITYGW_VERSION):
	GOBIN=$(CURDIR)/bin go install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION)
	touch $@

# Images. Their dates are those of the commit, so that two builds of it are the same.
IMAGES    ?= ipfs-aws cluster-aws
PLATFORMS ?=
DATE      := $(or $(shell git log -1 --format=%ct 2>/dev/null),0)
HOSTARCH  := $(shell go env GOHOSTARCH)
image_flags := --version '$(VERSION)' --commit '$(COMMIT)' --date $(DATE)

.PHONY: images
ifeq ($(PLATFORMS),)
images: dist/bin/linux-$(HOSTARCH) ## build the images for this machine; PLATFORMS=linux/amd64,linux/arm64: OCI layouts in dist/oci, ready to push
	cd docker && go run ./cmd/images docker $(IMAGES) --binaries ../dist/bin/linux-$(HOSTARCH) $(image_flags)
else
images: $(patsubst linux/%,dist/bin/linux-%,$(subst $(comma), ,$(PLATFORMS)))
	cd docker && go run ./cmd/images layout $(IMAGES) --platforms '$(PLATFORMS)' $(image_flags)
endif

# The binaries of a platform: those of bin/, where that is this machine's.
ifeq ($(shell go env GOHOSTOS),linux)
.PHONY: dist/bin/linux-$(HOSTARCH)
dist/bin/linux-$(HOSTARCH): build
	mkdir -p $@ && cp -p bin/ipfs-aws bin/cluster-aws bin/local-cluster bin/versitygw $@/
endif
.PHONY: always
always:
dist/bin/linux-%: always
	GOOS=linux GOARCH=$* go build -ldflags '$(ldflags)' -o $@/ ./cmd/...
	cd cluster && GOOS=linux GOARCH=$* go build -ldflags '$(ldflags)' -o ../$@/ ./cmd/...
	GOOS=linux GOARCH=$* go install github.com/versity/versitygw/cmd/versitygw@$(VERSITYGW_VERSION)
	cp $(shell go env GOPATH)/bin/linux_$*/versitygw $@/

# What the compose file starts besides the two.
COMPOSE_DIR ?= .compose

.PHONY: compose-up
compose-up: ## start the deployment in containers, with HTTPS (BLOCKSTORE=s3|efs), and print how to use it
	$(MAKE) images IMAGES='ipfs-aws cluster-aws local-cluster versitygw' PLATFORMS=
	bin/local-cluster compose up --dir $(COMPOSE_DIR) --blockstore $(BLOCKSTORE) --version '$(VERSION)'

.PHONY: compose-down
compose-down: ## end it; the data stays in its volumes (bin/local-cluster compose down --volumes removes it)
	bin/local-cluster compose down --dir $(COMPOSE_DIR) --blockstore $(BLOCKSTORE) --version '$(VERSION)'

# The release before this one, which the tests of upgrades start from.
FORMER := 3cdc8d681dff
.PHONY: former
former: bin/former/.$(FORMER) ## build the release before this one into bin/former (a clone with its history is needed)
bin/former/.$(FORMER):
	rm -rf bin/former && mkdir -p bin/former/src
	git archive $(FORMER) | tar -x -C bin/former/src
	cd bin/former/src && go build -ldflags '-s -w' -o .. ./cmd/ipfs-aws ./cmd/cluster-aws
	rm -rf bin/former/src
	touch $@

.PHONY: run
run: build ## start the deployed topology on this machine (BLOCKSTORE=s3|efs|flatfs)
	exec bin/local-cluster up --dir $(DIR) --blockstore $(BLOCKSTORE)

.PHONY: test
test: build ## run everything: unit, conformance, fault and process-level tests
	CGO_ENABLED=1 go test -race -timeout 30m -skip ConformanceOnServer $(race_packages)
	go test -timeout 15m -run ConformanceOnServer ./datastore/s3ds -full
	cd internal && CGO_ENABLED=1 go test -race -timeout 10m ./...
	go test -timeout 15m $$(go list ./... | grep -vE '/(datastore|test)/|/cmd/local-cluster')
	cd cluster && go test -timeout 15m $$(cd cluster && go list ./... | grep -v /test)
	cd docker && go test -timeout 10m ./...
	$(MAKE) -C infra test
	go test -timeout 25m -p 1 -v -skip TestTemplate $(process_packages)
	cd cluster && go test -timeout 25m -v ./test
	go test -timeout 10m -p 1 -short -v ./test/migrate ./test/s3

.PHONY: test-bill
test-bill: build ## count every row of the S3 bill beside go-ds-s3, kill and replace writers
	go test -timeout 20m -v ./test/s3

.PHONY: test-templates
test-templates: build ## take the task definitions of infra/templates through their life, as containers
	go test -timeout 25m -v -run TestTemplate ./test/images

.PHONY: test-kill
test-kill: build ## kill migrations of 20,000 blocks 20 times in each direction; memory of 100,000 blocks
	go test -timeout 40m -v -run 'Killed|Memory' ./test/migrate

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

# The benchmark suite: benchmarks/README.md. ARGS are more flags of `run`.
.PHONY: bench
bench: build ## what each blockstore costs and delivers: a report in benchmarks/results/<date> (ARGS='--profile full')
	go run ./benchmarks run $(ARGS)

.PHONY: bench-smoke
bench-smoke: build ## every blockstore and workload at toy size, and the report in a real browser
	go test -timeout 10m -run 'TestSmoke|TestReferenceLooksRight' -v ./benchmarks -smoke

.PHONY: bench-readme
bench-readme: ## make the README's table and picture from benchmarks/results/reference
	go test -timeout 5m -run 'TestReadmeIsInStep|TestSchemaIsInStep' ./benchmarks -update

.PHONY: test-quick
test-quick: build ## run the short tests, without the race detector
	go test -short -timeout 10m ./...
	cd internal && go test -short -timeout 10m ./...
	cd cluster && go test -short -timeout 10m ./...

# Those that import the CDK take minutes to be looked at, and are compiled by their tests.
infra_light := ./cmd/compose ./cmd/release ./compose ./costs ./prices ./release ./template

.PHONY: lint
lint: bin/.staticcheck-$(STATICCHECK_VERSION) ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l cmd cluster datastore docker infra internal plugin test benchmarks 2>/dev/null); \
	  test -z "$$unformatted" || { echo "not gofmt-ed: $$unformatted"; exit 1; }
	for dir in . internal cluster docker; do (cd $$dir && go vet ./...) || exit 1; done
	cd infra && go vet $(infra_light)
	for dir in . internal cluster docker; do (cd $$dir && $(CURDIR)/bin/staticcheck ./...) || exit 1; done
	cd infra && ../bin/staticcheck $(infra_light)

bin/.staticcheck-$(STATICCHECK_VERSION):
	GOBIN=$(CURDIR)/bin go install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
	touch $@

.PHONY: clean
clean: ## remove the binaries, what images were made of, and what `make run` left in DIR
	rm -rf bin dist $(DIR)
