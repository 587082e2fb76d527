package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/boards"
	"github.com/waysideos/wayside/qemu"
)

// mute is a machine whose guest prints a line on COM1 and stands still: it
// never becomes ready and hears no power button. See qemu/qemutest for the
// same trick.
func mute(t *testing.T) bootable {
	t.Helper()
	if _, err := qemu.Find(t.Context(), "x86_64"); err != nil {
		if errors.Is(err, qemu.ErrNotFound) && os.Getenv("CI") == "" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	dir := t.TempDir()
	rom := make([]byte, 64<<10)
	copy(rom, "\xba\xf8\x03\xb0\x2e\xee\xb0\x0a\xee\xf4\xeb\xfd") // out dx, '.' and '\n'; hlt for ever
	copy(rom[len(rom)-16:], "\xea\x00\x00\x00\xf0")
	for name, data := range map[string][]byte{"rom": rom, "image": make([]byte, 64<<10)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return bootable{
		board: boards.Board{Slug: "mute", QEMU: &boards.QEMU{
			System: "x86_64", Machine: "q35", CPU: "max", MemoryMiB: 16, SMP: 1,
			Disk: "virtio-blk-pci", NIC: "virtio-net-pci",
		}},
		image:    filepath.Join(dir, "image"),
		firmware: qemu.Firmware{Code: filepath.Join(dir, "rom")},
	}
}

// runMute runs the mute machine and returns the states it went through.
// changes are made to the runner before.
func runMute(t *testing.T, o runOptions, signals chan os.Signal, changes ...func(*runner)) (states []runState, stderr string, err error) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	b := mute(t)
	var out, log bytes.Buffer
	o.json, o.portBase = true, 0
	r := newRunner(o, &out, &log, signals)
	r.source = func(context.Context) (bootable, error) { return b, nil }
	for _, change := range changes {
		change(r)
	}
	err = r.run(t.Context())
	for dec := json.NewDecoder(&out); dec.More(); {
		var s runState
		if err := dec.Decode(&s); err != nil {
			t.Fatalf("standard output is not JSON: %v", err)
		}
		states = append(states, s)
	}
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), "wayside-run-*", "*"))
	if len(left) > 0 && !o.keep {
		t.Errorf("left behind: %v", left)
	}
	return states, log.String(), err
}

func TestRunThatNeverBecomesReady(t *testing.T) {
	states, stderr, err := runMute(t, runOptions{timeout: 500 * time.Millisecond}, nil)
	if err == nil {
		t.Fatal("got no error")
	}
	var names []string
	for _, s := range states {
		names = append(names, s.State)
	}
	if diff := cmp.Diff([]string{"building", "booting", "stopped"}, names); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	if got := states[2].Reason; got != "the box is not ready within 500ms" {
		t.Errorf("reason: got %q", got)
	}
	addresses := states[1].Addresses
	if !strings.HasPrefix(addresses["kafka"], "127.0.0.1:") || !strings.HasPrefix(addresses["console"], "http://127.0.0.1:") || addresses["mqtt"] == "" {
		t.Errorf("addresses: got %v", addresses)
	}
	if !strings.Contains(stderr, "the console ends with:\n.\n") {
		t.Errorf("standard error: got %q, want the console's end", stderr)
	}
}

func TestRunInterruptedWhileBooting(t *testing.T) {
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGINT
	states, _, err := runMute(t, runOptions{timeout: time.Minute}, signals)
	if !errors.Is(err, errInterrupted) || states[len(states)-1].Reason != "interrupted" {
		t.Errorf("got error %v and states %v, want an interruption", err, states)
	}
}

func TestRunWithSomethingThatDoesNotStart(t *testing.T) {
	signals := make(chan os.Signal, 1)
	states, _, err := runMute(t, runOptions{timeout: time.Minute, memory: 1 << 30}, signals)
	var exit *qemu.Exit
	if !errors.As(err, &exit) || exit.CameUp || !strings.Contains(states[len(states)-1].Reason, "never came up") {
		t.Errorf("got error %v and states %v, want a machine that never came up", err, states)
	}
}

// TestSecondSignalCutsThePower has a guest that does not hear the button.
func TestSecondSignalCutsThePower(t *testing.T) {
	signals := make(chan os.Signal, 2)
	states, _, err := runMute(t, runOptions{timeout: time.Minute}, signals, func(r *runner) {
		r.healthy = func(context.Context, string) bool {
			signals <- syscall.SIGINT
			signals <- syscall.SIGINT
			return true
		}
	})
	if err == nil {
		t.Error("got no error")
	}
	var got []string
	for _, s := range states {
		got = append(got, s.State+" "+s.Reason)
	}
	if diff := cmp.Diff([]string{"building ", "booting ", "ready ", "stopped power cut during the shutdown"}, got); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

func TestTakenPortNamesPortBase(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	err = checkPorts(runForwards(port))
	want := fmt.Sprintf("port 127.0.0.1:%d for kafka is taken", port)
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--port-base") {
		t.Errorf("got error %v, want %q and --port-base", err, want)
	}
}

func TestRunForwards(t *testing.T) {
	for base, want := range map[int]string{
		-1:   "127.0.0.1:9092 127.0.0.1:1883 127.0.0.1:8080",
		0:    "127.0.0.1:0 127.0.0.1:0 127.0.0.1:0",
		7000: "127.0.0.1:7000 127.0.0.1:7001 127.0.0.1:7002",
	} {
		var got []string
		for _, f := range runForwards(base) {
			got = append(got, f.Host)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("base %d: got %v, want %s", base, got, want)
		}
	}
}

func TestPhases(t *testing.T) {
	var got []string
	p := &phaseWriter{last: -1, note: func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }}
	console := "\x1b[2JBdsDxe: loading Boot0001\r\nBdsDxe: starting Boot0001 \"disk\"\r\n" +
		"EFI stub: Loaded initrd\r\n[    0.000000] Linux version 6.12\r\n[    0.3] hub: 1 port\r\n" +
		"[    1.1] wayside: slot root-a\r\nwayside: broker: level=INFO msg=x\r\nwayside: service broker: ready\r\nwayside: ready\r\nwayside: half a li"
	for i := 0; i < len(console); i += 7 { // it comes in pieces
		p.Write([]byte(console[i:min(i+7, len(console))]))
	}
	want := []string{"firmware starts disk", "kernel starts", "slot root-a", "service broker: ready", "all services are ready"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
}
