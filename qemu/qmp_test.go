package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
)

// fakeQEMU answers commands by name; a command it does not know is an error.
// It ends with the connection.
func fakeQEMU(t *testing.T, answers map[string]string) net.Conn {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer theirs.Close()
		fmt.Fprintln(theirs, `{"QMP": {"version": {}, "capabilities": []}}`)
		dec := json.NewDecoder(theirs)
		for {
			var m struct {
				Execute string
				ID      int
			}
			if dec.Decode(&m) != nil || m.Execute == "hang up" {
				return
			}
			if m.Execute == "stay silent" {
				continue
			}
			fmt.Fprintf(theirs, `{"timestamp": {}, "event": "SEEN", "data": {"name": %q}}`, m.Execute)
			if a, ok := answers[m.Execute]; ok {
				fmt.Fprintf(theirs, `{"id": %d, "return": %s}`, m.ID, a)
			} else {
				fmt.Fprintf(theirs, `{"id": %d, "error": {"class": "GenericError", "desc": "no such command"}}`, m.ID)
			}
		}
	}()
	t.Cleanup(func() { ours.Close(); <-done })
	return ours
}

func TestQMP(t *testing.T) {
	conn := fakeQEMU(t, map[string]string{"qmp_capabilities": "{}", "query-status": `{"status": "running"}`})
	q, err := openQMP(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	var status struct{ Status string }
	if err := q.execute(t.Context(), "query-status", nil, &status); err != nil || status.Status != "running" {
		t.Errorf("query-status: got %q (%v), want running", status.Status, err)
	}
	if err := q.execute(t.Context(), "fly", nil, nil); err == nil || !strings.Contains(err.Error(), "QMP fly: no such command") {
		t.Errorf("unknown command: got error %v", err)
	}
	pos := 0
	for _, want := range []string{"qmp_capabilities", "query-status", "fly"} {
		e, err := q.expect(t.Context(), "SEEN", &pos)
		if err != nil || !strings.Contains(string(e.Data), want) {
			t.Errorf("event: got %s (%v), want %s", e.Data, err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := q.execute(ctx, "stay silent", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got error %v, want context.Canceled", err)
	}
	if err := q.execute(t.Context(), "hang up", nil, nil); !errors.Is(err, errControlClosed) {
		t.Errorf("connection closed: got error %v, want errControlClosed", err)
	}
	if _, err := q.expect(t.Context(), "SEEN", &pos); !errors.Is(err, errControlClosed) {
		t.Errorf("event after the end: got error %v, want errControlClosed", err)
	}
	q.close()
}

func TestQMPWithoutGreeting(t *testing.T) {
	ours, theirs := net.Pipe()
	theirs.Close()
	if _, err := openQMP(t.Context(), ours); !errors.Is(err, errControlClosed) {
		t.Errorf("closed before the greeting: got error %v, want errControlClosed", err)
	}
}
