# make help lists the targets.

SHELL       := /bin/sh
GO          ?= go
BIN         := bin/harvest
# Linked into the binary; a tree without history says "unknown".
VERSION     ?= $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null)
COMMIT      ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null)
STAMP        = -X quantumharvest/internal/buildinfo.version=$(VERSION) -X quantumharvest/internal/buildinfo.commit=$(COMMIT)
# Prometheus and Alertmanager bring much code that never runs here. Inlining makes it a good deal larger, so it is on only
# where speed is felt (docs/adr/0016-prometheus-library.md).
PROM        := github.com/prometheus
FAST        := std quantumharvest/... $(PROM)/client_golang/... $(PROM)/common/... \
	$(PROM)/prometheus/tsdb/... $(PROM)/prometheus/promql/... $(PROM)/prometheus/model/... $(PROM)/prometheus/scrape/... $(PROM)/prometheus/rules/... \
	github.com/redis/go-redis/v9/internal/... github.com/alicebob/... github.com/yuin/... \
	github.com/cespare/... github.com/klauspost/... github.com/golang/... github.com/grafana/regexp/... github.com/coder/...
# Of those, what runs once, for people or when connecting.
ONCE        := crypto/... html/... text/... go/... mime/... encoding/xml encoding/asn1 net/mail net/textproto \
	$(addprefix quantumharvest/internal/,drill bench proof top watch config dashboards rules golden/... monitor/... inside flight tracing app) \
	quantumharvest/cmd/...
SMALL        = -ldflags "-s -w -funcalign=16 $(STAMP)" -gcflags=all=-l $(FAST:%=-gcflags=%=) $(ONCE:%=-gcflags=%=-l)
TOOL        := $(GO) tool -modfile=tools/go.mod
# Servers that were unpacked come first only for tests.
WITH_TOOLS  := PATH="$(CURDIR)/.tools/bin:$$PATH"

# go test arguments: make test PKG=./internal/store RUN=TestBeat
PKG         ?= ./...
RUN         ?= .
FUZZTIME    ?= 5000x
SOAK        ?= 10m
STEPS       ?= 1000000
MINUTES     ?= 10
DIR         ?= bin/endure
BENCH       ?= .
BENCH_COUNT ?= 1

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up
up: build ## build and run everything in one process (ARGS="--speed 60 ..."); needs nothing but Go
	@exec $(BIN) up $(ARGS)

.PHONY: build
build: ## build bin/harvest, static
	CGO_ENABLED=0 $(GO) build -trimpath $(SMALL) -o $(BIN) ./cmd/harvest

.PHONY: tools
tools: ## bring the servers that tests need into .tools/, without root
	@tools/fetch-debian.sh

.PHONY: test
test: tools compiler ## all tests with the race detector
	$(WITH_TOOLS) CGO_ENABLED=1 $(GO) test -race -timeout 12m -run '$(RUN)' $(PKG)
ifeq ($(PKG),./...)
	cd tools/dist && $(GO) test -run '$(RUN)' .
endif

.PHONY: compiler
compiler:
	@command -v "$$($(GO) env CC | cut -d' ' -f1)" >/dev/null || { \
		echo "make: the race detector needs a C compiler; on Debian and Ubuntu: apt-get install gcc libc6-dev" >&2; exit 1; }

.PHONY: long
long: tools ## the long suites (soaks, full vectors, short fuzzing), without the race detector
	$(WITH_TOOLS) HARVEST_LONG=1 $(GO) test -timeout 30m -run '$(RUN)' $(PKG)
	GO="$(GO)" tools/fuzz.sh $(FUZZTIME) $(PKG)

.PHONY: drill
drill: tools build ## every fault of the table on private copies, five times as fast as real time
	$(WITH_TOOLS) $(BIN) drill --time-scale 5 --parallel 4

.PHONY: figures
figures: tools build ## harvest bench on a redis-server of its own
	$(WITH_TOOLS) $(BIN) bench

.PHONY: soak
soak: ## the live feed on a stand-in exchange with random faults (SOAK=10m)
	HARVEST_SOAK=$(SOAK) $(GO) test -count 1 -timeout 90m -run '^TestSoak$$' -v ./internal/feed/binance

.PHONY: endure
endure: tools build ## the whole desk for as long as you like, with everyday faults (MINUTES=60 DIR=bin/endure); docs/SOAK.md says how to read it
	$(WITH_TOOLS) HARVEST_ENDURE=$(MINUTES)m HARVEST_ENDURE_PROGRAM="$(CURDIR)/$(BIN)" HARVEST_ENDURE_DIR="$(CURDIR)/$(DIR)" \
		$(GO) test -count 1 -timeout 25h -run '^TestEndure$$' -v ./internal/endure

.PHONY: memory
memory: build ## size of the binary, and memory of harvest up with everything embedded (MINUTES=10); fails above the limits
	@tools/memory.sh $(MINUTES)

.PHONY: schedule
schedule: ## publishers that die, stall, lose messages and fail over, looked at from outside (STEPS=1000000)
	HARVEST_STEPS=$(STEPS) $(GO) test -count 1 -timeout 90m -run '^TestRandomisedLeaseSchedule$$' -v ./internal/engine

.PHONY: bench
bench: tools ## benchmarks; BENCH_COUNT=10 and benchstat compare two trees
	$(WITH_TOOLS) $(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -count $(BENCH_COUNT) -timeout 60m $(PKG)

.PHONY: benchstat
benchstat: ## compare two outputs of make bench: make benchstat OLD=a.txt NEW=b.txt
	$(TOOL) benchstat $(OLD) $(NEW)

# Recorded by: make bench PKG=./kernel BENCH='State|Propose|Stops|Gate' BENCH_COUNT=6
RECORDED := docs/benchmarks/kernel.txt

.PHONY: compare
compare: ## the kernel's benchmarks against the recorded ones; says what changed and never fails on time
	@$(GO) test -run '^$$' -bench 'StateNext|StateRevise|StateCold|Propose|Stops|Gate' -benchmem -count 6 -benchtime 0.3s ./kernel > bin/kernel.txt
	$(TOOL) benchstat $(RECORDED) bin/kernel.txt

.PHONY: lint
lint: ## vet, staticcheck, gofumpt and code that nothing reaches
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	@out=$$($(TOOL) gofumpt -l .); [ -z "$$out" ] || { echo "$$out"; echo "make: these files need 'make fmt'" >&2; exit 1; }
	cd tools/dist && $(GO) vet ./...
	@out=$$($(TOOL) deadcode -filter '^quantumharvest/(cmd|internal)' ./cmd/... ./internal/config/gendocs ./internal/golden/pack); [ -z "$$out" ] || { echo "$$out"; exit 1; }

.PHONY: fmt
fmt: ## format the code
	$(TOOL) gofumpt -w .

.PHONY: generate
generate: ## make anew what is generated: references in docs/, alert rules, dashboards
	$(GO) run ./internal/config/gendocs docs/CONFIGURE.md docs/METRICS.md docs/KEYS.md docs/ALERTS.md
	$(GO) run ./internal/golden/pack testdata/vectors
	$(GO) run ./cmd/harvest rules --out deploy/alerts
	$(GO) run ./cmd/harvest rules --inhibitions --out deploy/alertmanager
	$(GO) run ./cmd/harvest dashboards --out deploy/dashboards
	cd tools/dist && $(GO) run . cluster

# What is handed out. A tree without a tag has a version that sorts before every release and by the time of its commit.
PLATFORMS   ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64
EPOCH       := $(shell git log -1 --format=%ct 2>/dev/null || echo 1)
DIST_VERSION = $(or $(shell tools/dist/version.sh "$(VERSION)"),$(error tools/dist/version.sh gave no version))
DIST         = cd tools/dist && $(GO) run . $(1) --root ../.. --out ../../$(or $(2),dist) --version "$(DIST_VERSION)" --commit "$(COMMIT)" \
	--epoch $(EPOCH) --platforms "$(PLATFORMS)" --go "$(GO)" -- $(SMALL)
dist dist-check packages-test: VERSION := $(DIST_VERSION)

.PHONY: dist
dist: ## archives, .deb, .rpm, image, bill of materials and checksums into dist/ (PLATFORMS="linux/amd64 ...")
	@$(call DIST,build)

.PHONY: dist-check
dist-check: PLATFORMS := linux/amd64
dist-check: ## the same for one platform, twice from different places: the bytes must be the same
	@$(call DIST,check)

.PHONY: packages-test
packages-test: debian-root dist-check ## the .deb in a clean Debian: install, run the units' commands, proof, upgrade, purge
	cd tools/dist && $(GO) test -count 1 -timeout 20m ./installed

.PHONY: systemd-test
systemd-test: dist-check ## the .deb under a systemd that is process 1, in namespaces of its own; needs root, and is no stage of CI
	@tools/systemd-test.sh

.PHONY: debian-root
debian-root:
	@tools/debian-root.sh

.PHONY: clean
clean: ## remove what was built and downloaded
	rm -rf bin dist .tools
