// Package run checks `wayside run` as a script would use it.
package run

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waysideos/wayside/test/harness"
)

// event is one line of `wayside run --json`.
type event struct {
	State     string            `json:"state"`
	Addresses map[string]string `json:"addresses"`
	Reason    string            `json:"reason"`
}

// TestRunForScripts starts a box, talks to it, and stops it by a signal.
func TestRunForScripts(t *testing.T) {
	harness.NeedVM(t)
	tmp := t.TempDir()
	cmd := harness.Command(t, "run", "--board", harness.Board, "--json", "--port-base", "0", "--timeout", harness.BootTime.String())
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(2*harness.BootTime, func() { cmd.Process.Kill() })
	defer kill.Stop()
	var states []string
	var last event
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("wayside run --json printed %q: %v", lines.Text(), err)
		}
		last = e
		if n := len(states); n == 0 || states[n-1] != e.State {
			states = append(states, e.State)
		}
		if e.State == "ready" {
			if out := harness.Kcat(t, e.Addresses["kafka"], "", "-L"); !strings.Contains(out, e.Addresses["kafka"]) {
				t.Errorf("kcat -L: got %q, want a broker at %s", out, e.Addresses["kafka"])
			}
			cmd.Process.Signal(syscall.SIGTERM)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("wayside run: %v, reason %q\n%s", err, last.Reason, stderr.Bytes())
	}
	if got := strings.Join(states, " "); got != "building booting ready stopped" {
		t.Errorf("got states %q, want building booting ready stopped", got)
	}
	nothingLeft(t, tmp)
}

// TestRunOfNoImage boots a disk that holds nothing: it must not wait for ever,
// say why, and fail.
func TestRunOfNoImage(t *testing.T) {
	harness.NeedVM(t)
	tmp := t.TempDir()
	garbage := filepath.Join(t.TempDir(), "garbage.img")
	if err := os.WriteFile(garbage, bytes.Repeat([]byte("garbage!"), 1<<17), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := harness.Command(t, "run", "--board", harness.Board, "--json", "--port-base", "0", "--image", garbage, "--timeout", "20s")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	out, err := cmd.Output()
	if err == nil {
		t.Error("got exit status 0, want another")
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var last event
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.State != "stopped" || last.Reason == "" {
		t.Errorf("got last line %q, want a stopped state with its reason", lines[len(lines)-1])
	}
	nothingLeft(t, tmp)
}

// nothingLeft wants no process that still uses tmp, and no folder of a run.
func nothingLeft(t *testing.T, tmp string) {
	t.Helper()
	var none *exec.ExitError // status 1: no process matches
	out, err := exec.Command("pgrep", "-af", tmp).Output()
	if err == nil {
		t.Errorf("processes are left: %s", out)
	} else if !errors.As(err, &none) || none.ExitCode() != 1 {
		t.Errorf("look for processes: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(tmp, "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("got files left %q, %v, want none", left, err)
	}
}
