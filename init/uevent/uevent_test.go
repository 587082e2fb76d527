//go:build linux

package uevent

import (
	"context"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	msg := "add@/devices/x\x00ACTION=add\x00DEVPATH=/devices/x\x00SUBSYSTEM=input\x00DEVNAME=input/event0\x00MODALIAS=acpi:PNP0C0C:\x00SEQNUM=1\x00"
	want := Event{"add", "/devices/x", "input", "input/event0", "acpi:PNP0C0C:"}
	if got, ok := parse([]byte(msg)); !ok || got != want {
		t.Errorf("got %+v, %v, want %+v", got, ok, want)
	}
	for _, bad := range []string{"", "libudev\x00ACTION=add", "add@/x"} {
		if e, ok := parse([]byte(bad)); ok {
			t.Errorf("parse(%q): got %+v, want it refused", bad, e)
		}
	}
}

func TestRunEndsWithContext(t *testing.T) {
	l, err := Open()
	if err != nil {
		t.Skipf("no uevent socket here: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx, func(Event) {}) }()
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("got %v, want nothing", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("Run did not end within 20 s")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("add@/devices/x\x00ACTION=add\x00"))
	f.Fuzz(func(_ *testing.T, b []byte) { parse(b) })
}
