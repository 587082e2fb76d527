// Package imagetest makes small inputs for tests of images, and finds the
// foreign tools that check what we write.
package imagetest

import (
	"bytes"
	"os"
	"os/exec"
	"testing"
)

// Tool returns the path of a foreign tool. Where it is not installed the test
// is skipped, but fails in CI: there a check that does not run is a hole.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} { // not in every user's PATH
		if _, err := os.Stat(dir + name); err == nil {
			return dir + name
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not installed, and this is CI", name)
	}
	t.Skipf("%s is not installed", name)
	return ""
}

// Run runs a foreign tool, which must succeed, and returns what it printed.
func Run(t testing.TB, tool string, args ...string) string {
	t.Helper()
	out, err := TryRun(t, tool, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", tool, args, err, out)
	}
	return out
}

// TryRun runs a foreign tool and returns what it printed and how it ended.
func TryRun(t testing.TB, tool string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(Tool(t, tool), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "MTOOLS_SKIP_CHECK=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}
