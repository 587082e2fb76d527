package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// VM is one machine: its disk, its variable store and, while it is on, the
// QEMU process that plays it. It can be switched on again after a power cut
// or a shutdown. Its methods are for one goroutine, except Console, Exited
// and Addr; Close may be called from any.
type VM struct {
	cfg      Config
	bin      Binary
	log      *slog.Logger
	console  *Console
	closeLog func() error
	ownWork  bool
	bootAt   int       // where the console's transcript of the current run begins
	looked   time.Time // at the processors, the last time

	mu   sync.Mutex
	proc *process // the current or last run; nil before the first
	disk *diskServer
	tpm  <-chan struct{} // closed when the TPM of the current or last run is gone; nil without one
}

// Start prepares the disk and switches the machine on. It returns when QEMU
// runs; the guest has then barely begun. An error that is an *Exit means that
// the machine never came up.
func Start(ctx context.Context, cfg Config, log *slog.Logger) (*VM, error) {
	vm, err := newVM(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	if err := vm.prepare(ctx); err != nil {
		vm.Close()
		return nil, err
	}
	for range 5 {
		err = vm.PowerOn(ctx)
		if !vm.lostPort(cfg, err) {
			break
		}
	}
	if err != nil {
		vm.Close()
		return nil, err
	}
	return vm, nil
}

// newVM settles everything that the command line depends on.
func newVM(ctx context.Context, cfg Config, log *slog.Logger) (*VM, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	bin, err := Find(ctx, cfg.Board.QEMU.System)
	if err != nil {
		return nil, err
	}
	var why string
	if cfg.isPi() {
		cfg.Accel = "tcg" // QEMU's machine is of another processor than any host's
	}
	cfg.Accel, why, err = accelerators.Choose(ctx, bin, cfg.Accel)
	if err != nil {
		return nil, err
	}
	log.Debug("qemu: accelerator", "accel", cfg.Accel, "why", why)
	if err := CheckPorts(cfg.Forwards); err != nil {
		return nil, err
	}
	if cfg.Forwards, err = choosePorts(cfg.Forwards); err != nil {
		return nil, err
	}
	vm := &VM{cfg: cfg, bin: bin, log: log}
	if err := vm.openWork(); err != nil {
		return nil, err
	}
	return vm, nil
}

// accelerators remembers for the life of the process whether KVM works; the
// answer cannot change and finding it takes up to seconds.
var accelerators Accelerators

// openWork makes paths absolute, the work folder, and the console in it.
func (v *VM) openWork() (err error) {
	c := &v.cfg
	if c.Work == "" {
		if c.Work, err = os.MkdirTemp("", "wayside-vm-"); err != nil {
			return fmt.Errorf("make work folder: %w", err)
		}
		v.ownWork = true
	}
	for _, p := range []*string{&c.Work, &c.Image, &c.Firmware.Code, &c.Firmware.SecureCode} {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(c.Work, 0o700); err != nil {
		return fmt.Errorf("make work folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(c.Work, consoleFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open console log: %w", err)
	}
	v.closeLog = f.Close
	out := io.Writer(f)
	if c.Console != nil {
		out = io.MultiWriter(f, c.Console)
	}
	v.console = NewConsole(out)
	return nil
}

func (v *VM) prepare(ctx context.Context) error {
	if err := prepareDisk(ctx, v.bin, v.cfg); err != nil {
		return err
	}
	return prepareVars(v.cfg)
}

// lostPort says that a port which was free when chosen is no longer, and
// chooses others.
func (v *VM) lostPort(asked Config, err error) bool {
	var exit *Exit
	if !errors.As(err, &exit) || !strings.Contains(exit.Stderr, "host forwarding rule") {
		return false
	}
	forwards, err := choosePorts(asked.Forwards)
	if err != nil {
		return false
	}
	v.cfg.Forwards = forwards
	return true
}

// PowerOn switches a machine on that is off: the same disk, the same firmware
// variables. The console's position moves to the end of what it has printed.
func (v *VM) PowerOn(ctx context.Context) error { return v.powerOn(ctx) }

func (v *VM) powerOn(ctx context.Context, extra ...string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.proc != nil && !isClosed(v.proc.done) {
		return errors.New("power on: the machine is on")
	}
	args, err := v.cfg.Args()
	if err != nil {
		return err
	}
	if v.cfg.isPi() {
		if err := preparePi(v.cfg); err != nil {
			return err
		}
	}
	v.console.Skip()
	v.bootAt = len(v.console.Text())
	var diskEnd *os.File
	if v.cfg.Disk == DiskDropping {
		v.disk.close() // of a run that the guest itself ended
		if v.disk, diskEnd, err = serveDisk(v.cfg); err != nil {
			return err
		}
		defer diskEnd.Close()
	}
	var tpmEnd *os.File
	if v.cfg.TPM {
		v.awaitTPM() // the last one holds its state
		if tpmEnd, v.tpm, err = startTPM(v.cfg); err != nil {
			return err
		}
		defer tpmEnd.Close()
	}
	v.log.Debug("qemu: power on", "program", v.bin.Path, "args", strings.Join(args, " "))
	proc, err := launch(ctx, v.bin.Path, append(args, extra...), v.console, diskEnd, tpmEnd)
	if err != nil {
		v.disk.close()
		v.disk = nil
		return err
	}
	v.proc = proc
	return nil
}

// awaitTPM waits until the TPM is gone that the last run had.
func (v *VM) awaitTPM() {
	if v.tpm != nil {
		<-v.tpm
	}
}

// running is the current process, or why there is none.
func (v *VM) running() (*process, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.proc == nil {
		return nil, errors.New("the machine was never switched on")
	}
	if isClosed(v.proc.done) {
		return nil, v.proc.exit
	}
	return v.proc, nil
}

// Expect waits until pattern appears on the console after what was expected
// before, and returns the match and its groups. When the machine goes off
// first, the error says how.
func (v *VM) Expect(ctx context.Context, pattern *regexp.Regexp) ([]string, error) {
	v.mu.Lock()
	proc := v.proc
	v.mu.Unlock()
	match, err := v.console.Expect(ctx, pattern, proc.done)
	if err != nil && isClosed(proc.done) {
		return nil, fmt.Errorf("expect %q on the console: %w; it ends with:\n%s", pattern, proc.exit, v.console.Tail(20))
	}
	return match, err
}

// ExpectEvent waits for a QEMU event that has not been waited for before:
// "WATCHDOG", "RESET", "SHUTDOWN", …
func (v *VM) ExpectEvent(ctx context.Context, name string) (Event, error) {
	proc, err := v.running()
	if err != nil {
		return Event{}, err
	}
	return proc.ctrl.expect(ctx, name, &proc.events)
}

// Console is the serial console with the transcript of all boots.
func (v *VM) Console() *Console { return v.console }

// Config is the configuration in force: defaults filled in, ports chosen.
func (v *VM) Config() Config { return v.cfg }

// Addr is the host's address of a forward, "" if there is none of that name.
func (v *VM) Addr(name string) string {
	f, _ := v.cfg.forward(name)
	return f.Host
}

// Exited is closed when the current run has ended; Exit then says how.
func (v *VM) Exited() <-chan struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.proc.done
}

// Exit says how the last run ended, nil while it goes on.
func (v *VM) Exit() *Exit {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.proc == nil || !isClosed(v.proc.done) {
		return nil
	}
	return v.proc.exit
}

// Wait waits for the end of the current run. The error is only ctx's.
func (v *VM) Wait(ctx context.Context) (*Exit, error) {
	select {
	case <-v.Exited():
		return v.Exit(), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the machine to go off: %w", ctx.Err())
	}
}

// QMP runs a command of QEMU's control protocol; args and result may be nil.
func (v *VM) QMP(ctx context.Context, command string, args, result any) error {
	proc, err := v.running()
	if err != nil {
		return err
	}
	return proc.ctrl.execute(ctx, command, args, result)
}

// Close cuts the power if the machine is on, and removes the work folder if
// the configuration named none.
func (v *VM) Close() error {
	var err error
	if proc, off := v.running(); off == nil {
		err = proc.kill("close")
	}
	v.mu.Lock()
	v.awaitTPM()
	v.mu.Unlock()
	err = errors.Join(err, v.disk.close(), v.closeLog())
	if v.ownWork {
		err = errors.Join(err, os.RemoveAll(v.cfg.Work))
	}
	return err
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
