//go:build linux

package clock

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRealClock moves the machine's clock, so it runs only where it was asked
// for: in a virtual machine.
func TestRealClock(t *testing.T) {
	if os.Getenv("WAYSIDE_TEST_SET_CLOCK") == "" {
		t.Skip("sets the machine's clock: WAYSIDE_TEST_SET_CLOCK=1 allows it")
	}
	before := time.Now()
	if err := (linux{}).step(before.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	moved := time.Now().Round(0).Sub(before.Round(0)) // by the wall clock
	if moved < time.Hour || moved > time.Hour+time.Minute {
		t.Errorf("got the clock moved by %v, want an hour", moved)
	}
	if err := (linux{}).slew(50 * time.Millisecond); err != nil {
		t.Error(err)
	}
	tx := unix.Timex{Modes: unix.ADJ_OFFSET_SS_READ}
	if _, err := unix.Adjtimex(&tx); err != nil || tx.Offset < 40_000 || tx.Offset > 50_000 {
		t.Errorf("got %d microseconds left to slew, %v; want a little less than 50000", tx.Offset, err)
	}
	if err := (linux{}).synchronised(10 * time.Millisecond); err != nil {
		t.Error(err)
	}
	tx = unix.Timex{}
	if state, err := unix.Adjtimex(&tx); err != nil || state == unix.TIME_ERROR || tx.Status&unix.STA_UNSYNC != 0 {
		t.Errorf("got clock state %d, status %x, %v; want it synchronised", state, tx.Status, err)
	}
	if err := (linux{}).step(before.Add(time.Since(before))); err != nil {
		t.Error(err)
	}
}
