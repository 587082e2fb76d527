// Command wayside builds, boots and inspects Wayside images.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := newRootCmd().ExecuteContext(ctx)
	if err == nil {
		return
	}
	var code exitCode
	if errors.As(err, &code) {
		os.Exit(int(code))
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "wayside: interrupted")
		os.Exit(128 + int(syscall.SIGINT)) // as a shell has it
	}
	fmt.Fprintln(os.Stderr, "wayside:", err)
	os.Exit(1)
}

// exitCode ends the program with a status, all having been said already.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }
