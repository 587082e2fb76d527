package clients

import (
	"os/exec"
	"testing"
)

// TestSaramaAndKafkaGo runs the module testdata/golang, which has these
// clients so that ours does not.
func TestSaramaAndKafkaGo(t *testing.T) {
	need(t)
	dir := source(t, "golang")
	insist(t, func() *exec.Cmd {
		cmd := exec.Command("go", "mod", "download")
		cmd.Dir = dir
		return cmd
	})
	b := startBroker(t)
	got := goTest(t, dir, []string{"-timeout", "5m", "."}, "BROKER="+b.addr)
	checkSkips(t, got, nil)
	ran(t, "golang", passed(got))
}
