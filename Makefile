# berth. make help says what there is.

GO ?= go
BIN := bin
PREFIX ?= /usr/local
GOFILES = $(shell git ls-files -co --exclude-standard '*.go')

# Both programs are static, and the same bytes wherever they are built. Plugins in WebAssembly would take 4 MB.
BUILD := CGO_ENABLED=0 $(GO) build -trimpath -tags nri_no_wasm -ldflags='-s -w'
# Tests that run a daemon and look for what it left on the machine: one at a time.
BLACKBOX := ./test/harness/... ./test/blackbox/... ./test/crash/... ./test/safety/... ./test/fuzz/...
UNIT = $(shell $(GO) list ./... | grep -vE '/test/(critest|kubelet|harness|blackbox|crash|safety|fuzz)')

.PHONY: FORCE critest-bench test-kubelet test-cgroup2 test-vm help build tools crictl staticcheck deps demo demo-clean test unit root-tests blackbox critest fuzz bench bench-check bench-pull lint cross install clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the two programs, into bin/
	$(BUILD) -o $(BIN)/ ./cmd/berth ./cmd/berth-keeper

TOOL = CGO_ENABLED=0 $(GO) build -C hack/tools -trimpath -ldflags='-s -w' -o $(CURDIR)/$(BIN)/
tools: crictl staticcheck ## crictl and staticcheck, into bin/
crictl:
	$(TOOL) sigs.k8s.io/cri-tools/cmd/crictl
staticcheck:
	$(TOOL) honnef.co/go/tools/cmd/staticcheck

$(BIN)/critest: hack/tools/go.mod
	CGO_ENABLED=0 $(GO) test -C hack/tools -c -trimpath -ldflags='-s -w' -o $(CURDIR)/$@ sigs.k8s.io/cri-tools/cmd/critest
	CGO_ENABLED=0 $(GO) build -C hack/tools -trimpath -ldflags='-s -w' -o $(CURDIR)/$(BIN)/ github.com/onsi/ginkgo/v2/ginkgo

deps: ## what tests need from Debian
	@hack/deps.sh

demo: build crictl ## berth at work: a daemon, an image, a pod of two containers (as root)
	@$(GO) run ./hack/demo up

demo-clean: ## ends and removes what make demo made
	@test -x $(BIN)/berth -a -x $(BIN)/crictl || $(MAKE) --no-print-directory build crictl
	@$(GO) run ./hack/demo down

test: unit blackbox ## all tests (as root)

unit: deps build ## tests beside the code, with the race detector (as root)
	BERTH_TEST_CNI_PLUGINS=build $(GO) run ./hack/gotest -noskip -again -- -race -timeout 15m $(UNIT)
	BERTH_TEST_LAYERS=directory $(GO) run ./hack/gotest -noskip -again -- -run '^TestRoot' -timeout 15m ./imagestore # as where the kernel can't mount files

blackbox: deps build crictl ## tests of a running daemon, one at a time (as root)
	$(GO) run ./hack/gotest -noskip -again -- -count=1 -p 1 -timeout 20m $(BLACKBOX)

root-tests: deps build crictl ## only the tests that need root; fails when one is skipped
	$(GO) run ./hack/gotest -noskip -- -count=1 -p 1 -run '^TestRoot' -timeout 20m ./...

critest: deps build crictl $(BIN)/critest ## the acceptance suite of the CRI, serially and in parallel (as root)
	$(GO) run ./hack/gotest -noskip -- -count=1 -timeout 40m ./test/critest

critest-bench: deps build crictl $(BIN)/critest ## the suite's own benchmarks: 100 pods and containers, and what they took (as root)
	BERTH_CRITEST_BENCHMARK=100 $(GO) test -count=1 -v -timeout 40m -run '^TestRootBenchmark$$' ./test/critest

# Built once for each version: it takes ten minutes of processor time.
KUBELET_VERSION = $(shell awk '$$1 == "require" && $$2 == "k8s.io/kubernetes" {print $$3}' hack/tools/kubelet/go.mod)
KUBELET = .cache/kubelet-$(KUBELET_VERSION)-$(shell cat hack/tools/kubelet/*.go hack/tools/kubelet/go.mod | sha256sum | cut -c 1-8)
K8S_GIT = -X k8s.io/component-base/version.git
KUBELET_LD = -s -w $(K8S_GIT)Version=$(KUBELET_VERSION) $(K8S_GIT)Major=$(patsubst v%,%,$(word 1,$(subst ., ,$(KUBELET_VERSION)))) $(K8S_GIT)Minor=$(word 2,$(subst ., ,$(KUBELET_VERSION)))

test-kubelet: deps build crictl ## static pods on a real kubelet; FOCUS=Pods/probes; the first time builds it (as root)
	@test -x $(KUBELET) || $(MAKE) --no-print-directory $(KUBELET)
	BERTH_TEST_KUBELET=$(CURDIR)/$(KUBELET) $(GO) run ./hack/gotest -noskip -- -count=1 -timeout 30m -run '^TestRoot$(FOCUS)' ./test/kubelet

$(KUBELET):
	mkdir -p .cache
	CGO_ENABLED=0 $(GO) build -C hack/tools/kubelet -trimpath -ldflags='$(KUBELET_LD)' -o $(CURDIR)/$@ .

# A number, not a time: before Go 1.27 a time's end may pass for a failed test (go.dev/issue/75804).
FUZZES ?= 6000x
fuzz: deps build ## FUZZES requests of every method, made up and mutilated, to a running daemon (as root)
	$(GO) test -run '^$$' -fuzz FuzzRequests -fuzztime $(FUZZES) -parallel 2 ./test/fuzz

$(BIN)/vm: FORCE
	$(GO) build -o $@ ./hack/vm
FORCE:

# Of test/blackbox, what cgroups and the kernel have a part in.
V2 := ./oci ./oci/apparmor ./oci/cgroup ./oci/launch ./oci/mount ./sandbox
V2_BLACKBOX := Cgroup|Stats|Metrics|TestRootCadvisor|Resource|RootUpdate|OOM|ContainerLife|ExitCodes|SharedPID|ExecSync|ExecTimeout|StopSignal|Volumes|Propagation|TestRootSecurity$$|Privileged|ImageVolume|Terminal|UserNamespace|PrivateCgroups|AppArmor|Handler|HugePages
V2_SYSTEMD := Scope|Stats|Metrics|TestRootCadvisor|Slice|RootCreate|RootKill|RootUpdate|Cgroup|Resource|OOM|ContainerLife|SharedPID
# What may be skipped in a machine, as another has what it needs: any other skip fails.
MAYSKIP := ^nothing$$
VM_TEST = $(GO) run ./hack/gotest -noskip -mayskip '$(MAYSKIP)' -again -- -count=1 -p 1 -timeout 30m -exec '$(CURDIR)/$(BIN)/vm exec'

test-cgroup2: deps build crictl $(BIN)/critest $(BIN)/vm ## tests on cgroup v2, with both drivers, AppArmor and SELinux, in virtual machines (as root)
	$(BIN)/vm prepare
	$(MAKE) --no-print-directory -j4 -Otarget in-vm-packages in-vm-daemon in-vm-systemd in-vm-selinux in-vm-network in-vm-checkpoint
	$(MAKE) --no-print-directory in-vm-critest

.PHONY: in-vm-packages in-vm-daemon in-vm-systemd in-vm-selinux in-vm-network in-vm-checkpoint in-vm-critest
in-vm-packages: MAYSKIP := TestRootScope
in-vm-packages: # an emulated processor is no measure of how long reads take
	$(BIN)/vm with $(VM_TEST) -skip TestReadsOfAFullNode $(V2)
in-vm-daemon:
	$(BIN)/vm with -append 'apparmor=1 security=apparmor hugepages=32' $(VM_TEST) -run '$(V2_BLACKBOX)' ./test/blackbox
in-vm-systemd:
	BERTH_TEST_CGROUP_DRIVER=systemd $(BIN)/vm with -systemd $(VM_TEST) -run '$(V2_SYSTEMD)' ./oci/cgroup ./test/blackbox
in-vm-selinux:
	$(BIN)/vm with -append 'security=selinux selinux=1 enforcing=0' $(VM_TEST) -run SELinux ./test/blackbox
in-vm-network: # interfaces and quotas that not every kernel has
	GOBIN=$(CURDIR)/.cache/cni-plugins CGO_ENABLED=0 $(GO) install $(addprefix github.com/containernetworking/plugins/plugins/,main/ipvlan@v1.9.1 main/vlan@v1.9.1 ipam/host-local@v1.9.1)
	BERTH_TEST_CNI_PLUGINS=$(CURDIR)/.cache/cni-plugins $(BIN)/vm with $(VM_TEST) -run 'TestRootVLAN|TestRootTakeOverKinds/^(ipvlan|vlan)$$|TestRootProject' ./cni ./cni/plugin/bridge ./imagestore
in-vm-critest: # alone: its tests have bounds of their own
	$(BIN)/vm with -append 'apparmor=1 security=apparmor' $(VM_TEST) -run TestRootAppArmor ./test/critest
in-vm-checkpoint: # criu 3.17 fails on newer kernels
	$(BIN)/vm with -append 'apparmor=1 security=apparmor' $(VM_TEST) -run 'Checkpoint|Restore' ./test/blackbox

test-vm: deps build crictl $(BIN)/vm ## PKGS='./cni -run TestRootX' in the virtual machine; VM=-systemd (as root)
	$(BIN)/vm with $(VM) $(VM_TEST) $(PKGS)

bench: build crictl deps ## measures a daemon of its own; BENCH=-compare beside containerd, BENCH='-endpoint unix://…' another (as root)
	$(GO) run ./test/bench $(BENCH)

bench-pull: BENCH = -pulls 5
bench-pull: bench ## has berth and containerd pull a large image by turns; the first time builds containerd (as root)

bench-check: BENCH = -check -slack 4
bench-check: bench ## fails when a figure is over four times its bound, for machines that do other work too
	$(GO) run ./test/bench $(BENCH) -pods 1000 -host-network -rounds 5 -restarts 0
	CGO_ENABLED=0 BERTH_BENCH_SLACK=4 $(GO) test -run '^$$' -bench 'Launch|Compile' -benchtime 300x ./oci

lint: staticcheck ## gofmt, go vet, staticcheck, and which package may import which
	@unformatted=$$(gofmt -l $(GOFILES)); if [ -n "$$unformatted" ]; then echo "gofmt these: $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(BIN)/staticcheck ./...
	$(GO) test ./hack/imports

cross: ## static builds for amd64 and arm64, into bin/linux-ARCH/
	@for arch in amd64 arm64; do \
		echo "linux/$$arch"; \
		GOARCH=$$arch $(BUILD) -o $(BIN)/linux-$$arch/ ./cmd/berth ./cmd/berth-keeper && \
		$(GO) run ./hack/static -arch $$arch $(BIN)/linux-$$arch/berth $(BIN)/linux-$$arch/berth-keeper || exit 1; \
	done

install: build ## into PREFIX (/usr/local), below DESTDIR
	install -D -m 0755 -t $(DESTDIR)$(PREFIX)/bin $(BIN)/berth $(BIN)/berth-keeper

clean: ## removes what was built, and what tests keep
	rm -rf $(BIN) .cache
