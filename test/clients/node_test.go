package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestKafkaJS needs Node.js and npm, which are too much to ask of a machine
// for one client: without them it is skipped.
func TestKafkaJS(t *testing.T) {
	need(t)
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	dir := fetched(t, "node", func(string) *exec.Cmd {
		return exec.Command("sh", "-c", "npm ci --ignore-scripts --no-audit --no-fund")
	})
	b := startBroker(t)
	cmd := exec.Command("sh", "-c", `exec node "$@"`, "node", filepath.Join(dir, "kafkajs.mjs"), b.addr)
	cmd.Args = append(cmd.Args, strings.Fields(os.Getenv("WAYSIDE_CLIENTS_CASES"))...)
	ran(t, "kafkajs", runCases(t, b, cmd))
}
