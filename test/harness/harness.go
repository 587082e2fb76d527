// Package harness gives the tests what an outsider has: the wayside command,
// a booted box, stock Kafka and MQTT clients, and a central Kafka.
package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"
)

// Eventually calls check until it returns nil, and fails the test with the
// last error when the deadline has passed. Each call gets at most 10 s.
func Eventually(t testing.TB, deadline time.Duration, what string, check func(context.Context) error) {
	t.Helper()
	eventually(t, deadline, what, check, func() bool { return false })
}

// eventually begins anew when again, between two calls of check, says so.
func eventually(t testing.TB, deadline time.Duration, what string, check func(context.Context) error, again func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var err error
	for {
		attempt, done := context.WithTimeout(ctx, 10*time.Second)
		last := check(attempt)
		done()
		if last == nil {
			return
		}
		if ctx.Err() == nil || err == nil {
			err = last // one that the deadline itself cut short says less
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %v: %v", what, deadline, err)
		case <-tick.C:
		}
		if again() {
			eventually(t, deadline, what, check, again)
			return
		}
	}
}

// silence is how long what is up may take to answer. It is told of when it does
// not at once: an emulator has stopped, or a machine is very busy.
const silence = time.Minute

// ask asks what is up and has to answer: an error is its answer, and fails the
// test. Only one that says nothing is asked again.
func ask(t testing.TB, what string, check func(context.Context) error, again func() bool) {
	t.Helper()
	eventually(t, silence, what, func(ctx context.Context) error {
		err := check(ctx)
		switch {
		case err == nil:
		case errors.Is(err, context.DeadlineExceeded):
			t.Logf("NOTE: %s: no answer yet: %v", what, err)
		default:
			t.Fatalf("%s: %v", what, err)
		}
		return err
	}, again)
}

// FreeAddr is an address of this host where nobody listens.
func FreeAddr(t testing.TB) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
}

// freePorts are n different TCP ports of 127.0.0.1 where nobody listens, nor
// will by chance: they are below those that outgoing connections get, one of
// which would else be in the way of a server that comes back.
func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	for range 100 * n {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12000+rand.N(20000)))
		if err != nil {
			continue
		}
		defer l.Close() // held until all are found
		if ports = append(ports, l.Addr().(*net.TCPAddr).Port); len(ports) == n {
			return ports
		}
	}
	t.Fatal("no port is free")
	return nil
}
