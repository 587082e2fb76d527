// Command rerun is `go test` for tests in virtual machines: what failed in a
// machine that its emulator had stopped runs once more, and nothing else does.
//
//	go run ./cmd/rerun -p 2 -count 1 -v -- ./test/update ./test/boot
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, goTest); err != nil {
		fmt.Fprintln(os.Stderr, "rerun:", err)
		os.Exit(1)
	}
}

// most is how many tests may meet the fault in one run, those that went on
// included. It is rare: more are a fault of something else, that looks alike.
const most = 2

// run takes the flags of `go test`, "--" and packages.
func run(ctx context.Context, args []string, out io.Writer, test func(ctx context.Context, args []string, to io.Writer) error) error {
	at := slices.Index(args, "--")
	if at < 0 || at == len(args)-1 {
		return fmt.Errorf("want flags of go test, --, and packages; got %q", args)
	}
	flags, packages := args[:at], args[at+1:]
	r := newReader(out)
	err := test(ctx, slices.Concat(flags, packages), r)
	r.flush()
	if err == nil || ctx.Err() != nil {
		return err
	}
	// go itself says with 1 that a test has failed; whoever ended it otherwise,
	// it has not told of all packages.
	var exit *exec.ExitError
	again, ok := r.stopped()
	if !ok || !errors.As(err, &exit) || exit.ExitCode() != 1 {
		return err
	}
	for _, k := range again {
		fmt.Fprintf(out, "NOTE: %s of %s failed in a machine that its emulator had stopped; it runs once more\n", k.test, k.pkg)
		r := newReader(out)
		err := test(ctx, slices.Concat(flags, []string{"-run", "^" + k.test + "$", k.pkg}), r)
		r.flush()
		if err != nil {
			return fmt.Errorf("%s of %s, the second time: %w", k.test, k.pkg, err)
		}
	}
	return nil
}

func goTest(ctx context.Context, args []string, to io.Writer) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Stdout, cmd.Stderr = to, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return cmd.Run()
}
