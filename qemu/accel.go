package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

// probeDeadline is ample: the probe takes a tenth of a second where KVM works.
const probeDeadline = 5 * time.Second

// Accelerators chooses between KVM and TCG and remembers the verdict. The
// zero value is ready; one for a process is enough, and safe for concurrent
// use.
type Accelerators struct {
	mu      sync.Mutex
	verdict map[string]error // by emulator: nil if KVM is proven
}

// Choose turns "", "auto", "kvm" or "tcg" into "kvm" or "tcg". why says in a
// few words what "auto" found.
func (a *Accelerators) Choose(ctx context.Context, bin Binary, want string) (accel, why string, err error) {
	switch want {
	case "kvm", "tcg":
		return want, "as asked", nil
	case "", "auto":
	default:
		return "", "", fmt.Errorf("accelerator %q: it is auto, kvm or tcg", want)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	verdict, known := a.verdict[bin.Path]
	if !known {
		verdict = proveKVM(ctx, bin)
		if ctx.Err() != nil {
			return "", "", fmt.Errorf("try KVM: %w", ctx.Err())
		}
		if a.verdict == nil {
			a.verdict = map[string]error{}
		}
		a.verdict[bin.Path] = verdict
	}
	if verdict != nil {
		return "tcg", "KVM does not work here: " + verdict.Error(), nil
	}
	return "kvm", "KVM is proven", nil
}

// proveKVM runs the probe guest. That /dev/kvm opens and makes machines says
// little: nested set-ups are known that run real-mode code and then stand
// still at the first instruction they cannot emulate.
func proveKVM(ctx context.Context, bin Binary) error {
	if !strings.HasSuffix(bin.Path, "qemu-system-x86_64") || runtime.GOARCH != "amd64" {
		return errors.New("the probe knows only x86-64 on x86-64")
	}
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "open "))
	}
	f.Close()
	return runProbe(ctx, bin, "kvm", "host")
}

// runProbe boots the probe guest and wants its greeting and its exit status.
func runProbe(ctx context.Context, bin Binary, accel, cpu string) error {
	dir, err := os.MkdirTemp("", "wayside-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	rom := filepath.Join(dir, "probe.rom")
	if err := os.WriteFile(rom, romImage(probeCode), 0o600); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeDeadline)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin.Path, "-no-user-config", "-nodefaults", "-machine", "q35",
		"-accel", accel, "-cpu", cpu, "-m", "16", "-display", "none", "-bios", rom,
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-device", "isa-debug-exit,iobase=0x501,iosize=1")
	out := &tailBuffer{}
	stderr := &stopOn{text: "KVM internal error", stop: cancel}
	cmd.Stdout, cmd.Stderr = out, stderr
	err = cmd.Run()
	switch {
	case cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == probeStatus && out.String() == probeGreeting:
		return nil
	case stderr.seen:
		return errors.New("it cannot execute some instructions (KVM internal error)")
	case ctx.Err() != nil:
		return fmt.Errorf("a tiny guest did not finish within %v", probeDeadline)
	}
	return fmt.Errorf("a tiny guest ended with %v: %.200s", err, strings.TrimSpace(stderr.String()))
}

// stopOn keeps what is written and calls stop when text has come by: after an
// internal error QEMU stands still and prints no more.
type stopOn struct {
	tailBuffer
	text string
	stop func()
	seen bool
}

func (s *stopOn) Write(p []byte) (int, error) {
	n, err := s.tailBuffer.Write(p)
	if !s.seen && strings.Contains(s.String(), s.text) {
		s.seen = true
		s.stop()
	}
	return n, err
}
