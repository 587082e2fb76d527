package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// python is a program of testdata/python, with its libraries from PyPI.
func python(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	dir := fetched(t, "python", func(string) *exec.Cmd {
		return exec.Command("sh", "-c", "python3 -m venv venv && venv/bin/python -m pip install -q --only-binary :all: -r requirements.txt")
	})
	args = append([]string{filepath.Join(dir, script)}, args...)
	return exec.Command(filepath.Join(dir, "venv", "bin", "python"), append(args, strings.Fields(os.Getenv("WAYSIDE_CLIENTS_CASES"))...)...)
}

// TestLibrdkafka: the C client that most languages' clients wrap.
func TestLibrdkafka(t *testing.T) {
	need(t)
	b := startBroker(t)
	b.quicken()
	ran(t, "librdkafka", runCases(t, b, python(t, "librdkafka.py", b.addr)))
}

func TestKafkaPython(t *testing.T) {
	need(t)
	b := startBroker(t)
	ran(t, "kafka-python", runCases(t, b, python(t, "kafkapython.py", b.addr)))
}
