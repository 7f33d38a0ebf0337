# Everything a person types is here; `make help` lists it.

VERSION  ?= 0.1.0-dev
COMMIT   ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
BLOCKSTORE ?= s3
DIR      ?= .run

comma := ,
VERSITYGW_VERSION   := v1.8.0
STATICCHECK_VERSION := v0.8.2
GOVULNCHECK_VERSION := v1.9.0

# One Go and one set of flags for builds and tests, so that they share one build
# cache: kubo and ipfs-cluster take minutes to compile and are compiled once.
export GOTOOLCHAIN ?= $(shell sed -n 's/^toolchain //p' go.mod)
export CGO_ENABLED := 0
export GOFLAGS     := -trimpath
pkg     := github.com/ipfs-aws/ipfs-aws/internal/version
ldflags := -s -w -X $(pkg).Version=$(VERSION) -X $(pkg).Commit=$(COMMIT)

# Packages that import neither kubo nor ipfs-cluster run under the race detector, which needs cgo
# and a second build of all they import.
race_packages := ./datastore/... ./node/... ./cmd/local-cluster/...
# Their tests that run without it: gate.PlainTests, where it says why.
plain_tests := Conformance|RequestsOf|FlippedBits|EveryErrorInEveryOperation|TestCat|MemoryOf64Adds|Histories|NoTwoOwners|LostToAnotherNode
# `make lint` has vetted what they test. Go remembers results, but does not see that files outside
# of a module have changed, as binaries are for all modules but this one.
gotest := go test -vet=off -count=1
# With TEST_FULL=1 all rounds are run: `make test-full`.
patience := $(if $(filter 1,$(TEST_FULL)),3h,30m)

# How long `make fuzz` spends on each decoder.
FUZZTIME ?= $(if $(filter 1,$(TEST_FULL)),2m,30s)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

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

# Programs for a Mac: an image has none of them.
dist/bin/darwin-%: always
	GOOS=darwin GOARCH=$* go build -ldflags '$(ldflags)' -o $@/ ./cmd/...
	cd cluster && GOOS=darwin GOARCH=$* go build -ldflags '$(ldflags)' -o ../$@/ ./cmd/...

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

# The stages of `make test`. Each is a target; `make test` says at its end what time each took.
stages := build test-race test-conformance test-unit test-process test-containers

.PHONY: test
test: ## run what a change has to pass: unit, conformance, fault and process-level tests
	@exec .ci/stages $(stages)

.PHONY: test-full
test-full: export TEST_FULL := 1
test-full: ## run every test with all its rounds, every template and long fuzzing: hours, what runs every night
	@exec .ci/stages former $(stages) test-upgrade test-kubo test-templates bench-smoke fuzz

.PHONY: test-race
test-race: build
	CGO_ENABLED=1 $(gotest) -race -timeout $(patience) $(race_packages)
	cd internal && CGO_ENABLED=1 $(gotest) -race -timeout $(patience) ./...

.PHONY: test-conformance
test-conformance: build ## go-datastore's suite, and what else runs without the race detector, on every store
	$(gotest) -timeout $(patience) -run '$(plain_tests)' ./datastore/...

.PHONY: test-unit
test-unit: build
	$(gotest) -timeout $(patience) $$(go list ./... | grep -vE '/(datastore|node|test)/|/cmd/local-cluster')
	cd cluster && $(gotest) -timeout $(patience) $$(go list ./... | grep -v /test)
	cd docker && $(gotest) -timeout $(patience) ./...

# Chains of packages that start many processes, side by side: they wait for those more than they work.
process_chains := test-process-node test-process-cluster test-process-migrate
.PHONY: test-process $(process_chains)
test-process: build
	$(MAKE) --no-print-directory -j3 -Otarget $(process_chains)
test-process-node:
	$(gotest) -timeout $(patience) -p 1 -v ./test/e2e ./test/node ./test/efs ./test/gc
test-process-cluster:
	cd cluster && $(gotest) -timeout $(patience) -parallel 3 -v ./test
test-process-migrate:
	$(gotest) -timeout $(patience) -p 1 -v ./test/migrate ./test/s3

# So do images and what belongs to AWS.
.PHONY: test-containers test-images test-infra
test-containers: build
	$(MAKE) --no-print-directory -j2 -Otarget test-images test-infra
deployments := TestDeployment$$|TestTemplate|TestRunbooks
test-images: ## build the images and run them, alone and together (`make build` first)
	$(gotest) -timeout $(patience) -v -skip '$(deployments)' ./test/images
test-infra:
	$(MAKE) -C infra test

.PHONY: test-kubo
test-kubo: build ## run kubo's own tests of its command line with flatfs, efs and s3
	cd test/kubo && go test -timeout 150m -v ./...

.PHONY: test-templates
test-templates: build ## upgrade the deployment of docker/compose.yaml task by task; stop, kill and cut off that of a template
	$(gotest) -timeout $(patience) -v -run '$(deployments)' ./test/images

.PHONY: test-upgrade
test-upgrade: build former ## let this release go on with repos of the former one
	TEST_FULL=1 $(gotest) -timeout 1h -v ./test/upgrade

.PHONY: test-bill
test-bill: build ## count every row of the S3 bill, with go-ds-s3 doing the same work
	TEST_FULL=1 $(gotest) -timeout 30m -v -run TestBill ./test/s3

.PHONY: test-kill
test-kill: build ## kill migrations of 20,000 blocks 20 times in each direction; memory of 100,000 blocks
	TEST_FULL=1 $(gotest) -timeout 1h -v -run 'Killed|Memory' ./test/migrate

# The short form of everything but containers.
.PHONY: test-quick
test-quick: ## run the short tests, without the race detector and without containers: a few minutes
	@exec .ci/stages build quick-unit quick-process

.PHONY: quick-unit
quick-unit:
	go test -vet=off -short -timeout 10m $$(go list ./... | grep -vE '/test/')
	cd internal && $(gotest) -short -timeout 10m ./...
	cd cluster && $(gotest) -short -timeout 10m $$(go list ./... | grep -v /test)

.PHONY: quick-process
quick-process:
	$(gotest) -short -timeout 10m -run 'TestLifecycle|TestEveryBlockstore|TestContainerOnAnEmptyVolume' ./test/e2e ./test/node

# Five minutes for each blockstore and age, and the same without the protection, which must lose content.
.PHONY: test-storm
test-storm: build ## collect garbage for half an hour while everything else goes on
	STORM_TIME=5m STORM_CONTROL=1 $(gotest) -timeout 60m -v -run Storm ./test/gc

# The fuzzer of Go 1.26 now and then fails with nothing but "context deadline
# exceeded" when its time is up; a finding leaves a file in testdata/fuzz.
.PHONY: fuzz
fuzz: ## fuzz every decoder of what lies on disk or in the bucket, FUZZTIME each
	@grep -rlE '^func Fuzz' --include='*_test.go' datastore | xargs -n1 dirname | sort -u | while read -r dir; do \
	  for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9]+' $$dir/*_test.go | sed 's/func //'); do \
	    echo "fuzz ./$$dir $$f"; \
	    run() { go test -vet=off -run='^$$' -fuzz="^$$f\$$" -fuzztime=$(FUZZTIME) ./$$dir </dev/null; }; \
	    run || { test ! -e "$$dir/testdata/fuzz/$$f" && run; } || exit 1; \
	  done; \
	done

# The benchmark suite: benchmarks/README.md. ARGS are more flags of `run`.
.PHONY: bench
bench: build ## what each blockstore costs and delivers: a report in benchmarks/results/<date> (ARGS='--profile full')
	go run ./benchmarks run $(ARGS)

.PHONY: bench-smoke
bench-smoke: build ## every blockstore and workload at toy size, and the report in a real browser
	go test -timeout 10m -vet=off -count=1 -run TestSmoke -v ./benchmarks -smoke

.PHONY: bench-readme
bench-readme: ## make the README's table and picture from benchmarks/results/reference
	go test -timeout 5m -run 'TestReadmeIsInStep|TestSchemaIsInStep' ./benchmarks -update

# Those that import the CDK take minutes to be looked at, and are compiled by their tests.
infra_light := ./cmd/compose ./cmd/release ./compose ./costs ./release ./template

.PHONY: lint
lint: bin/.staticcheck-$(STATICCHECK_VERSION) ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l cmd cluster datastore docker infra internal plugin test benchmarks 2>/dev/null); \
	  test -z "$$unformatted" || { echo "not gofmt-ed: $$unformatted"; exit 1; }
	for dir in . internal cluster docker test/kubo; do (cd $$dir && go vet ./...) || exit 1; done
	cd infra && go vet $(infra_light)
	for dir in . internal cluster docker; do (cd $$dir && $(CURDIR)/bin/staticcheck ./...) || exit 1; done
	cd infra && ../bin/staticcheck $(infra_light)

bin/.staticcheck-$(STATICCHECK_VERSION):
	GOBIN=$(CURDIR)/bin go install honnef.co/go/tools/cmd/staticcheck@$(STATICCHECK_VERSION)
	touch $@

# The known vulnerabilities that our code reaches. Without its database nothing can be
# said: VULN_REQUIRED=1 makes that a failure.
VULN_REQUIRED ?=

.PHONY: vuln
vuln: bin/.govulncheck-$(GOVULNCHECK_VERSION) ## look for known vulnerabilities (VULN_REQUIRED=1: fail if the database cannot be reached)
	@for dir in . cluster internal; do \
	  said=$$(cd $$dir && $(CURDIR)/bin/govulncheck ./... 2>&1) && { echo "$$dir: $$said"; continue; }; \
	  case "$$said" in \
	    *"fetching vulnerabilities:"*) \
	      echo "vuln: NOTHING WAS CHECKED, the database of vulnerabilities cannot be reached: $${said##*fetching vulnerabilities: }"; \
	      test -z '$(VULN_REQUIRED)'; exit;; \
	  esac; \
	  echo "$$dir: $$said"; exit 1; \
	done

bin/.govulncheck-$(GOVULNCHECK_VERSION):
	GOBIN=$(CURDIR)/bin go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)
	touch $@

.PHONY: clean
clean: ## remove the binaries and what images were made of; deployments stay
	rm -rf bin dist

.PHONY: clean-run
clean-run: ## remove the deployment that `make run` left in DIR, with all its content
	rm -rf $(DIR)
