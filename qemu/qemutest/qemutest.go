// Package qemutest gives tests machines of package qemu: cleaned up after the
// test, with transcript and disk kept when it fails, and restored from a
// snapshot where booting is not what is tested.
package qemutest

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/qemu"
)

// Require finds QEMU for a test. Where it is missing or too old the test is
// skipped with the reason and what to install; in CI (environment CI is set)
// it fails, since a skip there would hide the tests.
func Require(t testing.TB, system string) qemu.Binary {
	t.Helper()
	bin, err := qemu.Find(t.Context(), system)
	switch {
	case err == nil:
	case errors.Is(err, qemu.ErrNotFound) && os.Getenv("CI") == "":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
	return bin
}

// New starts a machine for the test and ends it with the test. The
// accelerator is that of environment WAYSIDE_ACCEL unless cfg names one.
func New(t testing.TB, cfg qemu.Config) *qemu.VM {
	t.Helper()
	prepare(t, &cfg)
	vm, err := qemu.Start(t.Context(), cfg, Logger(t))
	if err != nil {
		t.Fatalf("start the machine: %v", err)
	}
	closeAfter(t, vm)
	return vm
}

// prepare fills what the test machinery decides.
func prepare(t testing.TB, cfg *qemu.Config) {
	t.Helper()
	if cfg.Board.QEMU == nil {
		t.Fatalf("board %q has no qemu section", cfg.Board.Slug)
	}
	Require(t, cfg.Board.QEMU.System)
	if cfg.Accel == "" {
		cfg.Accel = os.Getenv("WAYSIDE_ACCEL")
	}
	if cfg.Work == "" {
		cfg.Work = workDir(t)
	}
}

// workDir is a folder that is removed when the test passes, and kept and
// named when it fails: below t.ArtifactDir() if the tests run with
// -artifacts, else in the system's folder for temporary files.
func workDir(t testing.TB) string {
	t.Helper()
	parent := ""
	if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
		parent = t.ArtifactDir()
	}
	dir, err := os.MkdirTemp(parent, "vm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the machine's console log and disk are kept in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func closeAfter(t testing.TB, vm *qemu.VM) {
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the console of the machine (%s) ends with:\n%s",
				filepath.Base(vm.Config().Work), vm.Console().Tail(40))
			tellDeadTimer(t, vm)
		}
		if err := vm.Close(); err != nil {
			t.Errorf("end the machine: %v", err)
		}
	})
}

// tellDeadTimer says of a test that failed whether its machine can do nothing
// any more, by no fault of its own.
func tellDeadTimer(t testing.TB, vm *qemu.VM) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if cpu, dead := vm.DeadTimer(ctx); dead {
		apic, err := vm.LocalAPIC(ctx, cpu)
		t.Logf("%s: QEMU has stopped the timer of processor %d, %v:\n%s", qemu.EmulatorFault, cpu, err, apic)
	}
}

// Logger writes to the test's log.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Until calls probe again and again until it returns nil, and fails the test
// with its last error when ctx ends first.
func Until(t testing.TB, ctx context.Context, what string, probe func(context.Context) error) {
	t.Helper()
	if err := poll(ctx, probe); err != nil {
		t.Fatalf("wait for %s: %v", what, strings.TrimSpace(err.Error()))
	}
}
