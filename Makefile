# A thin index; what a step does is in Go. `make help` lists the targets.
SHELL := /bin/sh
GO ?= go
# Where the host's own apt configuration names no Debian mirror (Ubuntu), set
# WAYSIDE_MIRROR and WAYSIDE_SECURITY_MIRROR in the environment.
SITE ?= examples/shop.yaml
# The board that test-all and vm-short run on.
BOARD ?= qemu-arm64
export CGO_ENABLED ?= 0
# git refuses to read a checkout that another user owns, as in containers, and
# go list and go build fail with it unless they leave git alone.
export GOFLAGS := $(shell $(GO) env GOFLAGS) -buildvcs=false

WAYSIDE := out/bin/wayside

# The longest first: two run at a time.
VM_PACKAGES = ./test/update ./test/powercut $$($(GO) list ./test/... | grep -v -e /test/update -e /test/powercut -e /test/clients -e /test/connect -e /test/replication)

.PHONY: help run build test test-all check unit vm vm-short bench-broker bench-delta bench-boot bench-replicator bench-connect clients connectors soak soak-links test-updates test-pi4 devices clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(WAYSIDE): FORCE
	@$(GO) build -trimpath -o $@ ./cmd/wayside

FORCE:

run: $(WAYSIDE) ## build the image and boot it in QEMU
	@$(WAYSIDE) host setup --for run
	@$(WAYSIDE) run --site $(SITE)

build: $(WAYSIDE) ## build the image of the generic x86 board into out/
	@$(WAYSIDE) build --board x86-64-uefi --site $(SITE) -o out/

test: $(WAYSIDE) ## unit tests, then the promises in virtual machines
	@$(WAYSIDE) host setup --for test
	@$(MAKE) --no-print-directory check unit clients connectors vm
	@$(MAKE) --no-print-directory vm-short BOARD=qemu-arm64

check: ## formatting, vet, also for macOS
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt: run gofmt -w on these files"; exit 1; }
	@$(GO) vet ./...
	@GOOS=darwin $(GO) vet ./cmd/wayside

unit: ## unit tests of every package but test/
	@$(GO) test $$($(GO) list ./... | grep -v /test/) ./test/rules

clients: ## other people's Kafka clients against the broker, and links to a real Kafka
	@WAYSIDE_CLIENTS=1 $(GO) test -p 1 -count 1 -timeout 20m -v ./test/clients ./test/replication

connectors: ## connectors against servers and clients that others wrote
	@WAYSIDE_CONNECT=1 $(GO) test -p 1 -count 1 -timeout 10m -v ./test/connect

vm: ## what an outsider may rely on, in virtual machines
	@WAYSIDE_VM=1 $(GO) run ./cmd/rerun -p 2 -count 1 -timeout 45m -v -- $(VM_PACKAGES)

# What each other board shows on each run: it boots, an update that fails falls
# back, and the broker takes and gives records.
vm-short: ## the same, one life of a box of another board: BOARD=qemu-arm64
	@WAYSIDE_VM=1 WAYSIDE_BOARD=$(BOARD) $(GO) test -count 1 -timeout 20m -v -run 'TestFaults/kernel_panic' ./test/update

# Every package runs to its end, whatever the others say. What it printed is in
# out/, and at the end what failed, what was left out and why, and the packages.
test-all: $(WAYSIDE) ## the whole matrix of virtual machines on one board, hours: BOARD=qemu-arm64
	@$(WAYSIDE) host setup --for test
	@rm -f out/test-all.status
	@{ WAYSIDE_VM=1 WAYSIDE_LONG=1 WAYSIDE_BOARD=$(BOARD) $(GO) test -p 1 -count 1 -timeout 240m -v $(VM_PACKAGES) 2>&1; echo $$? >out/test-all.status; } | tee out/test-all-$(BOARD).log
	@awk '/^ *--- SKIP/ {print "left out:" $$0; print last} /^ *--- FAIL/ {print "failed:" $$0} /^(ok|FAIL|panic:|\?)[ \t]/ {print} {last = $$0}' out/test-all-$(BOARD).log
	@exit $$(cat out/test-all.status)

bench-broker: ## measure the broker beside its peers, writes docs/benchmarks.md; QUICK=1 for less
	@$(GO) test ./test/bench -run 'TestBench$$' -count 1 -timeout 40m -v -bench-broker -bench-quick=$(or $(QUICK),0)

bench-connect: ## measure connectors beside their peers, writes docs/benchmarks-connect.md
	@$(GO) test ./test/connect -run 'TestBench' -count 1 -timeout 30m -v -bench-connect

bench-delta: ## measure what updates fetch, writes docs/benchmarks-delta.md; BOARDS=x86-64-uefi for one
	@$(GO) test ./test/delta -run 'TestBenchDelta$$' -count 1 -timeout 120m -v -bench-delta $(if $(BOARDS),-bench-boards=$(BOARDS))

bench-boot: ## measure sizes, boot times and memory of the boards, writes docs/benchmarks-boot.md; BOARDS=qemu-x86_64 for one
	@WAYSIDE_VM=1 $(GO) test ./test/bootbench -run 'TestBenchBoot$$' -count 1 -timeout 60m -v -bench-boot -bench-boards=$(BOARDS)

RECORDS ?= 1000000
bench-replicator: ## measure a link beside MirrorMaker 2, writes docs/benchmarks-links.md; RECORDS=100000 for less
	@$(GO) test ./test/replication -run 'TestBenchLinks$$' -count 1 -timeout 60m -v -bench-links $(RECORDS) -bench-page $(CURDIR)/docs/benchmarks-links.md

SOAK ?= 1h
soak: ## wear the broker for an hour, or SOAK=10m: kills, restarts, disk full, fuzzers, model checker
	@$(GO) test ./test/soak -run 'TestSoak$$' -count 1 -timeout 0 -v -soak $(SOAK)

soak-links: ## wear links for an hour, or SOAK=10m: faults of the uplink, kills at both ends, every record compared
	@$(GO) test ./test/replication -run 'TestNothingLostNothingTwice$$' -count 1 -timeout 0 -v -soak-link $(SOAK)

test-pi4: ## the Raspberry Pi's image in QEMU's model of a 4 B: some minutes
	@WAYSIDE_VM=1 $(GO) test ./test/update -run 'TestRaspberryPi4$$' -count 1 -timeout 20m -v -pi4

test-updates: ## every fault of the matrix in virtual machines, sticks, the format barrier, all power cuts of a recorded update: an hour
	@WAYSIDE_VM=1 $(GO) test ./test/update -run 'TestFaultMatrix|TestStick|TestFormatBarrier|TestUpdatesUnderLoad|TestRapidPowerCycles' -count 1 -timeout 120m -v -matrix -cycles 50 -cuts 1000 -cut-chances 6

devices: ## a box with radios, a modem and a serial line, in one boot
	@WAYSIDE_VM=1 WAYSIDE_LONG=1 $(GO) test ./test/devices -count 1 -timeout 25m -v

clean: ## remove what was built
	@rm -rf out
