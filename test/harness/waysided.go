package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is the folder of the daemon, "" while there is none.
var built string

// Waysided is the path of the daemon with all services of the box, built once
// per test process, or what WAYSIDE_TEST_WAYSIDED names. A package that asks
// for it has Main as its TestMain.
func Waysided(t testing.TB) string {
	t.Helper()
	bin, err := waysided()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

var waysided = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("WAYSIDE_TEST_WAYSIDED"); bin != "" {
		return bin, nil
	}
	dir, err := os.MkdirTemp("", "waysided-")
	if err != nil {
		return "", err
	}
	built = dir
	bin := filepath.Join(dir, "waysided")
	out, err := exec.Command("go", "build", "-o", bin, "github.com/waysideos/wayside/cmd/waysided").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build waysided: %v\n%s", err, out)
	}
	return bin, nil
})

// Main runs a package's tests and removes the daemon that was built for them.
func Main(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}
