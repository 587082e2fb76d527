package server

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
)

// TestFairLine: one address with a hundred connections that always want more
// holds out a modest one of another address for a grant or two, not for a
// hundred; and nobody is left out for wanting much.
func TestFairLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := newBudget(100)
		var granted []string
		join := func(address string, n int64) {
			go func() {
				if _, err := b.acquire(ctx, address, n); err != nil {
					return
				}
				b.mu.Lock()
				defer b.mu.Unlock()
				granted = append(granted, address)
			}()
			synctest.Wait()
		}
		for range 100 {
			join("hungry", 100)
		}
		join("modest", 10)
		join("large", 100)
		if fmt.Sprint(granted) != "[hungry]" {
			t.Fatalf("granted at first: %v", granted)
		}
		if _, ok := b.tryAcquire(0); ok {
			t.Error("who comes last overtakes those who wait")
		}
		for _, n := range []int64{100, 10, 100, 100} { // of the hungry, what the modest wants, and so on
			b.release(n)
			synctest.Wait()
		}
		modest, large := -1, -1
		for i, a := range granted {
			switch a {
			case "modest":
				modest = i
			case "large":
				large = i
			}
		}
		if modest < 0 || modest > 2 || large < 0 || large > 4 {
			t.Errorf("modest was served as number %d, large as %d: %v", modest, large, granted)
		}
		cancel()
		synctest.Wait()
		b.mu.Lock()
		defer b.mu.Unlock()
		if len(b.lines) > 0 || b.want != 0 {
			t.Errorf("%d lines are left and %d bytes are wanted, though all have gone", len(b.lines), b.want)
		}
	})
}

// TestLineCancelled: who gives up gives its place, or what it was just granted,
// to the others.
func TestLineCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(10)
		if _, err := b.acquire(t.Context(), "a", 10); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gave := make(chan error, 1)
		go func() {
			_, err := b.acquire(ctx, "a", 10)
			gave <- err
		}()
		synctest.Wait()
		got := make(chan int64, 1)
		go func() {
			n, _ := b.acquire(t.Context(), "b", 50) // all there is
			got <- n
		}()
		synctest.Wait()
		cancel()
		if err := <-gave; err == nil {
			t.Error("it was granted what nobody had given back")
		}
		b.release(10)
		if n := <-got; n != 10 {
			t.Errorf("granted %d, want 10", n)
		}
		b.release(10)
		if n, ok := b.tryAcquire(10); !ok || n != 10 {
			t.Error("something is held for ever")
		}
	})
}
