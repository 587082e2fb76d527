package qemu

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestQEMUDiesWithItsParent kills a process that runs a machine; the process
// is this test itself, run once more.
func TestQEMUDiesWithItsParent(t *testing.T) {
	ctx := testContext(t)
	if os.Getenv("WAYSIDE_TEST_ORPHAN") != "" {
		vm := boot(t, ctx, guestConfig(t, DiskOverlay))
		fmt.Println("qemu is", vm.proc.cmd.Process.Pid)
		<-ctx.Done()
		return
	}
	guestConfig(t, DiskOverlay) // skips without QEMU
	parent := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestQEMUDiesWithItsParent$")
	parent.Env = append(os.Environ(), "WAYSIDE_TEST_ORPHAN=1", "TMPDIR="+t.TempDir())
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		if _, text, ok := strings.Cut(lines.Text(), "qemu is "); ok {
			pid, _ = strconv.Atoi(text)
		}
	}
	parent.Process.Kill()
	parent.Wait()
	if pid == 0 {
		t.Fatal("the machine did not come up")
	}
	for deadline := time.Now().Add(10 * time.Second); alive(pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("QEMU (process %d) outlives its parent", pid)
		}
	}
}

// alive says whether a process runs; one that waits to be reaped does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
