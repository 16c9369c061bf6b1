# Everything runs on loopback and stops by itself. RACE is empty where no C compiler is installed (the race detector needs one).
GO     ?= go
RACE   := $(if $(shell command -v $${CC:-cc} gcc clang 2>/dev/null),-race,)
N      ?= 200
T      ?= 60s
GB     ?= 10
BIN    := bin

.PHONY: all build run test check race fuzz crash powercut fulldisk damage mutants bench statsbench lookupbench benchstat compat corpus timing hostile invariants clean

all: build

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ ./cmd/nsqd ./cmd/nsqlookupd

# A local cluster on the stock ports of loopback: nsqlookupd and an nsqd that registers with it, data in ./run. Ctrl-C stops both.
run: build
	@mkdir -p run
	@echo "nsqlookupd on 127.0.0.1:4160 (TCP) and 127.0.0.1:4161 (HTTP), nsqd on 127.0.0.1:4150 (TCP) and 127.0.0.1:4151 (HTTP), data in ./run; stop with Ctrl-C. In another terminal:"
	@echo "  curl -d 'hello' 'http://127.0.0.1:4151/pub?topic=greetings'"
	@echo "  curl 'http://127.0.0.1:4161/lookup?topic=greetings'"
	@echo "  $(GO) run ./perf/tail greetings demo"
	@./$(BIN)/nsqlookupd --tcp-address=127.0.0.1:4160 --http-address=127.0.0.1:4161 --broadcast-address=127.0.0.1 & lookupd=$$!; \
	./$(BIN)/nsqd --tcp-address=127.0.0.1:4150 --http-address=127.0.0.1:4151 --broadcast-address=127.0.0.1 \
	  --lookupd-tcp-address=127.0.0.1:4160 --data-path=run & nsqd=$$!; \
	trap 'kill $$nsqd $$lookupd 2>/dev/null' INT TERM; wait $$nsqd; status=$$?; wait $$nsqd 2>/dev/null; \
	kill $$lookupd 2>/dev/null; wait $$lookupd; exit $$status

# All tests, real processes and clients included.
test:
	@if [ -z "$(RACE)" ]; then echo "make test: no C compiler found, so the tests run WITHOUT the race detector"; fi
	$(GO) vet ./...
	$(GO) test $(RACE) -count=1 -timeout 10m ./...

# Formatting, vet, lint and unit tests without the race detector.
check:
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) test -short ./...

race:
	$(GO) test -race -short ./...

# Each fuzz target for T (default 60s).
fuzz:
	@set -e; for pkg in $$($(GO) list ./...); do \
	  dir=$$($(GO) list -f '{{.Dir}}' $$pkg); \
	  for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go 2>/dev/null | sed 's/func //'); do \
	    echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(T) -fuzzminimizetime 10x $$pkg; \
	  done; \
	done

# The log's invariants checked at run time (mmapq/invariants_on.go), under the tests of the log and the broker. The checks allocate.
invariants:
	$(GO) test -count=1 -tags invariants -skip Allocations ./mmapq ./fanout

# SIGKILL under load, N rounds, half of them at a named point of the daemon (a second binary, built with the tag crashpoints); the ledger decides.
crash: build
	$(GO) run ./perf/crash -n $(N) -nsqd $(BIN)/nsqd -defer -sigterm 5 -aimed 50 -stopped 10 -oom 10 -verify -restart 1s

# N power cuts under each sync policy, on an ext4 image that is copied while the daemon works. Needs root, and says so where it is not.
powercut: N = 100
powercut: build
	$(GO) run ./perf/crash -powercut always -n $(N) -nsqd $(BIN)/nsqd -defer
	$(GO) run ./perf/crash -powercut interval -n $(N) -nsqd $(BIN)/nsqd -defer

# The disk filled to the last byte N times on each of two small file systems. Needs root, and says so where it is not.
fulldisk: N = 20
fulldisk: build
	$(GO) run ./perf/crash -fulldisk tmpfs -n $(N) -nsqd $(BIN)/nsqd -defer -strict
	$(GO) run ./perf/crash -fulldisk ext4 -n $(N) -nsqd $(BIN)/nsqd -defer -strict

# The log's script under a power cut at every operation of its disk, in process: N runs, four cuts at each operation.
.PHONY: crashclone
crashclone: N = 25
crashclone:
	$(GO) test -count=1 -timeout 30m -run TestCrashClone -v ./mmapq -clone.seeds $(N) -clone.each 4

# N data paths damaged: bits, pages, noise, cuts, in every kind of file; what that may cost is counted.
damage: N = 100
damage: build
	$(GO) run ./perf/crash -damage -n $(N) -nsqd $(BIN)/nsqd -defer

# The rigs must catch planted bugs: every mutant that perf/crash lists, each by the rig named for it.
mutants:
	$(GO) run ./perf/crash -mutants

# Ours and any other nsqd, alternately in one run, up to half an hour: make bench PEER=/path/to/nsqd [FLAGS='-quick -tls -only REGEXP ..'].
# Prints Markdown; with a peer it also draws the ratios into SVG.
SVG    ?= docs/bench.svg
bench: build
	$(GO) build -o $(BIN)/bench ./perf/bench
	$(if $(PEER),@mkdir -p $(dir $(SVG)))
	./$(BIN)/bench -ours $(BIN)/nsqd $(if $(PEER),-peer $(PEER) -svg $(SVG),) $(FLAGS)

# Benchmarks of the packages, here and at another commit, compared: make benchstat REF=main [PKGS=./mmapq] [COUNT=6]
REF    ?= origin/main
PKGS   ?= ./codec ./mmapq ./fanout ./loop ./httpapi
COUNT  ?= 6
benchstat:
	GO=$(GO) perf/benchstat.sh $(REF) $(COUNT) $(PKGS)

# What /stats costs with 10,000 channels and clients, ours and any other nsqd: make statsbench PEER=/path/to/nsqd
statsbench: build
	$(GO) run ./perf/statsbench -ours $(BIN)/nsqd $(if $(PEER),-peer $(PEER),)

# Lookups with 1,000 nsqds and 1,000 topics, ours and any other nsqlookupd: make lookupbench PEER=/path/to/nsqlookupd
lookupbench: build
	$(GO) run ./perf/lookupbench -ours $(BIN)/nsqlookupd $(if $(PEER),-peer $(PEER),)

# The conformance suite against our binaries, or against any other: make compat PEER=/path/to/nsqd PEER_LOOKUPD=/path/to/nsqlookupd
compat:
	$(GO) test -count=1 ./perf/compat $(if $(PEER),-peer=$(abspath $(PEER)),) $(if $(PEER_LOOKUPD),-peer-lookupd=$(abspath $(PEER_LOOKUPD)),)

# How punctual deferrals, requeue delays and timeouts are, idle and under load.
timing: build
	$(GO) build -o $(BIN)/timing ./perf/timing
	./$(BIN)/timing -nsqd $(BIN)/nsqd $(FLAGS)

# Clients that mean harm, of nineteen kinds, beside an honest pair.
hostile: build
	$(GO) build -o $(BIN)/hostile ./perf/hostile
	./$(BIN)/hostile -nsqd $(BIN)/nsqd $(FLAGS)

# Every line of the Go sources through three channels.
corpus: build
	$(GO) run ./perf/corpus -nsqd $(BIN)/nsqd

# Gigabytes past one message that nobody finishes, then past half a million of them: the disk must stay below 1 GiB. About a minute.
.PHONY: straggler due
straggler: build
	$(GO) run ./perf/straggler -nsqd $(BIN)/nsqd -gb $(GB)
	$(GO) run ./perf/straggler -nsqd $(BIN)/nsqd -gb $(GB) -size 200 -stay 100

# Messages deferred by two minutes, the broker killed meanwhile: none early, 99.9 % within 20 ms of their time. FLAGS='-fill 10000000' adds as many
# that wait for an hour. On a machine that does something else as well: FLAGS='-late 200ms'.
due: build
	$(GO) build -o $(BIN)/due ./perf/due
	./$(BIN)/due -nsqd $(BIN)/nsqd $(FLAGS)

clean:
	rm -rf $(BIN)
