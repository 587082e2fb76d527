package main

import (
	"context"
	"errors"
	"testing"
)

// A plan that has failed does not wait for the compiler.
func TestCompilerIsWaitedForWhileThereIsAPlan(t *testing.T) {
	end := make(chan struct{})
	c := startCompiler(func() (string, string, error) {
		<-end
		return "init", "services", nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v while it compiles, want the plan's end", err)
	}
	close(end)
	if init, services, err := c.wait(t.Context()); init != "init" || services != "services" || err != nil {
		t.Errorf("got %q, %q, %v", init, services, err)
	}
}
