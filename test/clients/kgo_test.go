package clients

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/test/harness"
)

// kgoSkips are the tests of kgo that skip, and why. One that runs, or another
// that skips, fails the test.
var kgoSkips = []skip{
	{"TestIssueProduceBrokerTooOldFailsRecords", "is about brokers without Produce v2; this one still offers it, for the compression of old librdkafka"},
}

// skip is a test of somebody else's that does not run.
type skip struct{ name, why string }

// kgoModule copies franz-go as the module cache has it: its tests are run
// where they may write, and nothing of it is kept here.
func kgoModule(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/twmb/franz-go").Output()
	if err != nil {
		t.Fatalf("find franz-go: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "franz-go")
	if err := os.CopyFS(dir, os.DirFS(strings.TrimSpace(string(out)))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestKgo runs the tests of franz-go's client, at the version that go.mod has.
func TestKgo(t *testing.T) {
	need(t)
	scram := harness.FreeAddr(t)
	profile := filepath.Join(t.TempDir(), "site.yaml")
	text := "version: 1\nsite: kgo\nbroker:\n  listeners:\n    - {name: scram, listen: \"" + scram + "\", sasl: {mechanisms: [SCRAM-SHA-256], users: users}}\n"
	if err := errors.Join(os.WriteFile(profile, []byte(text), 0o644), os.WriteFile(filepath.Join(filepath.Dir(profile), "users"), []byte("ann:secret\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	b := startBroker(t, "--site", profile, "--secrets", filepath.Dir(profile))
	// Some tests want a topic that is internal. Kafka has this one of itself;
	// our broker keeps offsets in its journal.
	harness.CreateTopic(t, b.addr, "__consumer_offsets", 1)
	args := []string{"-trimpath", "-timeout", "5m"}
	if run := os.Getenv("WAYSIDE_CLIENTS_CASES"); run != "" {
		args = append(args, "-run", run)
	}
	got := goTest(t, filepath.Join(kgoModule(t), "pkg", "kgo"), args,
		"KGO_SEEDS="+b.addr, "KGO_TEST_RF=1", "KGO_TEST_RECORDS=30000", "KGO_TEST_UNSAFE=1", "KGO_LOG_LEVEL=none",
		"KGO_TEST_SCRAM_SEEDS="+scram, "KGO_TEST_SCRAM=ann:secret:256")
	checkSkips(t, got, kgoSkips)
	ran(t, "kgo", passed(got))
}

// checkSkips compares what was skipped with what is said to be.
func checkSkips(t *testing.T, got map[string]string, want []skip) {
	t.Helper()
	listed := map[string]bool{}
	for _, s := range want {
		listed[s.name] = true
		if result := got[s.name]; result != "skip" && result != "" {
			t.Errorf("%s: %s, but is among the skips: take it out", s.name, result)
		}
	}
	for name, result := range got {
		if result == "skip" && !listed[name] {
			t.Errorf("%s skips and is not among the skips", name)
		}
	}
}

// passed are the tests that passed, without their parts.
func passed(results map[string]string) []string {
	var names []string
	for name, result := range results {
		if result == "pass" && !strings.Contains(name, "/") {
			names = append(names, name)
		}
	}
	return names
}

// goTest runs `go test` in a folder, one subtest for each test there that is
// not skipped, and returns each one's result: pass, fail or skip.
func goTest(t *testing.T, dir string, args []string, env ...string) map[string]string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"test", "-json", "-count", "1"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), append(env, "GOWORK=off", "GOFLAGS=-buildvcs=false")...)
	var stderr tail
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start(t, cmd)
	results, printed := map[string]string{}, map[string]*tail{}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var e struct {
			Action, Test, Output string
			Elapsed              float64
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Log(lines.Text())
			continue
		}
		switch e.Action {
		case "output":
			if printed[e.Test] == nil {
				printed[e.Test] = new(tail)
			}
			printed[e.Test].Write([]byte(e.Output))
		case "pass", "fail", "skip":
			results[e.Test] = e.Action
			report(t, e.Test, e.Action, time.Duration(e.Elapsed*float64(time.Second)), printed[e.Test])
		}
	}
	if len(results) < 2 || results[""] != "pass" {
		t.Errorf("go test %v in %s: %q\n%s%s", args, dir, results[""], printed[""], &stderr)
		for name, text := range printed {
			if results[name] == "" {
				t.Errorf("%s did not end:\n%s", name, text)
			}
		}
	}
	delete(results, "")
	return results
}

// report makes a subtest of another process's test.
func report(t *testing.T, name, action string, took time.Duration, output *tail) {
	t.Helper()
	if name == "" || action == "skip" {
		return
	}
	t.Run(name, func(t *testing.T) {
		t.Log(took)
		if action == "fail" {
			t.Errorf("failed:\n%s", output)
		}
	})
}
