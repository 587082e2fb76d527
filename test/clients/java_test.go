package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// javaProject is a Maven project below testdata, compiled, with its libraries.
func javaProject(t *testing.T, name string) string {
	t.Helper()
	return fetched(t, name, func(string) *exec.Cmd {
		return exec.Command("mvn", "-q", "-B", "compile", "dependency:copy-dependencies", "-DoutputDirectory=lib", "-DincludeScope=runtime")
	})
}

// java is a program of the project of today's clients. It is given little memory and compiles
// quickly rather than well: no case is about Java's speed.
func java(t *testing.T, class string, args ...string) *exec.Cmd {
	t.Helper()
	return javaIn(t, javaProject(t, "java"), "error", class, args...)
}

// javaIn is a program of a project; log is how much it logs, unless
// WAYSIDE_CLIENTS_LOG says otherwise.
func javaIn(t *testing.T, dir, log, class string, args ...string) *exec.Cmd {
	t.Helper()
	path := filepath.Join(dir, "target", "classes") + string(filepath.ListSeparator) + filepath.Join(dir, "lib", "*")
	return exec.Command("java", append([]string{
		"-Xmx384m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=" + or(os.Getenv("WAYSIDE_CLIENTS_LOG"), log),
		"-cp", path, class}, args...)...)
}

// TestJava: producer, consumer, Admin and Streams of Apache Kafka.
// WAYSIDE_CLIENTS_CASES picks cases by name.
func TestJava(t *testing.T) {
	need(t)
	b := startBroker(t)
	b.quicken()
	args := append([]string{b.addr}, picked(javaCases(t, ""))...)
	ran(t, "java", runCases(t, b, java(t, "clients.Main", args...)))
}

// TestJavaTools: what Apache Kafka's bin has for clusters, topics and groups.
func TestJavaTools(t *testing.T) {
	need(t)
	b := startBroker(t)
	args := append([]string{b.addr}, picked(javaCases(t, "tools/"))...)
	ran(t, "java-tools", runCases(t, b, java(t, "clients.Main", args...)))
}

// TestOldJava: the oldest client that Kafka 4 serves.
func TestOldJava(t *testing.T) {
	need(t)
	b := startBroker(t)
	ran(t, "java-old", runCases(t, b, javaIn(t, javaProject(t, "java-old"), "error", "old.Main", b.addr)))
}

// javaCases are the names of the cases of a group, which runs by itself; of
// all other groups for "".
func javaCases(t *testing.T, group string) []string {
	t.Helper()
	out, err := java(t, "clients.Main", "--list").Output()
	if err != nil {
		t.Fatalf("list the cases: %v", err)
	}
	return slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool {
		if group == "" {
			return strings.HasPrefix(name, "security/") || strings.HasPrefix(name, "tools/")
		}
		return !strings.HasPrefix(name, group)
	})
}

// picked are the cases that WAYSIDE_CLIENTS_CASES names by a part of theirs.
func picked(all []string) []string {
	var some []string
	for _, part := range strings.Fields(os.Getenv("WAYSIDE_CLIENTS_CASES")) {
		for _, name := range all {
			if strings.Contains(name, part) {
				some = append(some, name)
			}
		}
	}
	if some == nil {
		return all
	}
	return some
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
