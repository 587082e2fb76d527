package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/waysideos/wayside/qemu"
)

// shutdownTime is how long the box may take from the power button to off.
const shutdownTime = 45 * time.Second

// runOptions is what `wayside run` is asked for.
type runOptions struct {
	build    buildOptions
	image    string // boots this one and builds none
	disk     string // kept across runs
	memory   int    // MiB; 0: the board's
	portBase int    // -1: the services' own ports
	timeout  time.Duration
	json     bool
	console  bool
	keep     bool
	secure   bool // Secure Boot with our keys enrolled
	tpm      bool
}

func newRunCmd() *cobra.Command {
	o := runOptions{build: buildOptions{out: "out"}}
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Build an image and boot it in QEMU",
		Long: `Builds the image, boots it in QEMU through the whole chain, firmware, boot
loader, signed kernel, verified root, services, and prints where they are
reached. Ctrl-C shuts the box down; a second one cuts its power. Nothing is
left behind but the image, and the disk if --disk names one. KVM is used where
it proves itself; WAYSIDE_ACCEL=kvm or tcg in the environment decides otherwise.

With --json every change of state is one JSON object a line on standard output:
  {"state":"building"|"booting"|"ready"|"stopped","addresses":{…},"reason":…}
The exit status is not 0 when the box never becomes ready, dies, or does not
shut down in time.`,
		Example: `  wayside run --site examples/shop.yaml
  wayside run --image out/wayside-qemu-x86_64-0.1.0-dev.img --disk shop.raw   keep the box's disk
  wayside run --secure-boot --tpm                           firmware that runs only what is signed
  wayside run --json --port-base 0                          any free ports, for scripts`,
		Args: flagsOnly,
		RunE: func(cmd *cobra.Command, _ []string) error {
			signals := make(chan os.Signal, 2)
			signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer signal.Stop(signals)
			r := newRunner(o, cmd.OutOrStdout(), cmd.ErrOrStderr(), signals)
			r.source = r.buildOrFetch
			return r.run(cmd.Context())
		},
	}
	o.build.add(cmd)
	fl := cmd.Flags()
	fl.StringVar(&o.image, "image", "", "boot this image `FILE` instead of building one")
	fl.StringVar(&o.disk, "disk", "", "keep the box's disk in `FILE`; made from the image if missing")
	fl.IntVar(&o.memory, "memory", 0, "memory of the box in `MiB` (default: the board's)")
	fl.IntVar(&o.portBase, "port-base", -1, "Kafka, MQTT and status page on ports `N`, N+1, N+2; 0 for any free ones (default: 9092, 1883, 8080)")
	fl.DurationVar(&o.timeout, "timeout", 3*time.Minute, "how long the box may take to become ready")
	fl.BoolVar(&o.json, "json", false, "print one JSON object a line")
	fl.BoolVar(&o.console, "console", false, "show the box's console on standard error")
	fl.BoolVar(&o.secure, "secure-boot", false, "Secure Boot, with PK, KEK and db of --keys enrolled")
	fl.BoolVar(&o.tpm, "tpm", false, "give the box a TPM 2.0; needs swtpm")
	fl.BoolVar(&o.keep, "keep", false, "keep the folder with console log and disk, and say where")
	return cmd
}

// runner is one `wayside run`.
type runner struct {
	runOptions
	report  *runReport
	stderr  io.Writer
	signals <-chan os.Signal
	source  func(context.Context) (bootable, error)
	healthy func(ctx context.Context, addr string) bool // asks the status page
}

func newRunner(o runOptions, stdout, stderr io.Writer, signals <-chan os.Signal) *runner {
	return &runner{runOptions: o, report: newRunReport(stdout, o.json), stderr: stderr, signals: signals, healthy: healthy}
}

var errInterrupted = errors.New("interrupted")

// run returns an error unless the box became ready and was shut down in
// order, by a signal or by itself.
func (r *runner) run(ctx context.Context) (err error) {
	defer func() {
		reason := "shut down"
		if err != nil {
			reason = err.Error()
		}
		r.report.stopped(reason)
	}()
	if err := r.check(); err != nil {
		return err
	}
	forwards := runForwards(r.portBase)
	if err := checkPorts(forwards); err != nil { // a build takes time: complain before it
		return err
	}
	r.report.state("building")
	b, err := r.source(ctx)
	if err != nil {
		if ctx.Err() != nil {
			return errInterrupted
		}
		return err
	}
	return r.boot(ctx, b, forwards)
}

// check refuses numbers that cannot work before anything is built.
func (o runOptions) check() error {
	switch {
	case o.portBase < -1 || o.portBase > 65535-2:
		return fmt.Errorf("--port-base %d: it is 0 for any free ports, or 1 to 65533", o.portBase)
	case o.timeout <= 0:
		return fmt.Errorf("--timeout %v: it is a time above zero, as 90s or 3m", o.timeout)
	case o.memory < 0:
		return fmt.Errorf("--memory %d: it is a number of MiB above zero", o.memory)
	}
	return nil
}

func (r *runner) boot(ctx context.Context, b bootable, forwards []qemu.Forward) error {
	work, removeWork, err := qemu.MakeWork(filepath.Join(os.TempDir(), fmt.Sprintf("wayside-run-%d", os.Getuid())))
	if err != nil {
		return err
	}
	if r.keep {
		defer fmt.Fprintf(r.stderr, "console log and disk are kept in %s\n", work)
	} else {
		defer removeWork()
	}
	cfg, err := r.config(b, work, forwards)
	if err != nil {
		return err
	}
	vm, err := qemu.Start(ctx, cfg, slog.New(slog.NewTextHandler(r.stderr, nil)))
	if err != nil {
		return portHint(err)
	}
	defer vm.Close()
	r.report.booting(vm)
	// A signal must not end what follows but begin the shutdown.
	ctx = context.WithoutCancel(ctx)
	if err := r.untilReady(ctx, vm); errors.Is(err, errInterrupted) {
		return err
	} else if err != nil {
		fmt.Fprintf(r.stderr, "the console ends with:\n%s\n", vm.Console().Tail(25))
		return err
	}
	r.report.ready()
	return r.untilOff(ctx, vm)
}

func (r *runner) config(b bootable, work string, forwards []qemu.Forward) (qemu.Config, error) {
	cfg := qemu.Config{
		Board: b.board, Image: b.image, Firmware: b.firmware,
		Work: work, MemoryMiB: r.memory, Forwards: forwards, Advertised: "kafka",
		Accel: os.Getenv("WAYSIDE_ACCEL"), Console: r.report.console(), TPM: r.tpm,
	}
	if r.secure {
		var err error
		if cfg.SecureBoot, err = ownVariables(r.build.keys); err != nil {
			return cfg, err
		}
	}
	if r.disk != "" {
		cfg.Disk, cfg.DiskFile = qemu.DiskCopy, r.disk
	}
	if r.runOptions.console {
		cfg.Console = io.MultiWriter(r.stderr, cfg.Console)
	}
	return cfg, nil
}

// untilReady waits until the status page says that the box is healthy.
func (r *runner) untilReady(ctx context.Context, vm *qemu.VM) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		if r.healthy(ctx, vm.Addr("console")) {
			return nil
		}
		select {
		case <-ticker.C:
		case <-vm.Exited():
			return vm.Exit()
		case <-r.signals:
			return errInterrupted
		case <-ctx.Done():
			return fmt.Errorf("the box is not ready within %v", r.timeout)
		}
	}
}

// healthy asks the status page. While nothing listens in the guest, QEMU
// accepts the connection and closes it.
func healthy(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/healthz", nil)
	if err != nil {
		return false
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// untilOff waits for the end of a box that was ready: by a signal, or by
// itself.
func (r *runner) untilOff(ctx context.Context, vm *qemu.VM) error {
	select {
	case <-r.signals:
		return r.shutdown(ctx, vm)
	case <-vm.Exited():
	}
	exit := vm.Exit()
	if exit.Reason == "guest-shutdown" {
		return nil
	}
	fmt.Fprintf(r.stderr, "the console ends with:\n%s\n", vm.Console().Tail(25))
	return exit
}

// shutdown presses the power button. A second signal cuts the power.
func (r *runner) shutdown(ctx context.Context, vm *qemu.VM) error {
	r.report.note("shutting down; once more Ctrl-C cuts the power")
	ctx, cancel := context.WithTimeout(ctx, shutdownTime)
	defer cancel()
	ctx, cut := context.WithCancelCause(ctx)
	defer cut(nil)
	done := make(chan struct{})
	defer func() { <-done }()
	go func() {
		defer close(done)
		select {
		case <-r.signals:
			cut(errInterrupted)
		case <-ctx.Done():
		}
	}()
	err := vm.Shutdown(ctx)
	switch {
	case context.Cause(ctx) == errInterrupted:
		err = errors.New("power cut during the shutdown")
	case err != nil:
		err = fmt.Errorf("the box did not shut down within %v", shutdownTime)
	}
	cut(nil)
	return err
}
