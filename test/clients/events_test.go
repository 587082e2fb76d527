package clients

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// caseTime is how long one case may take; none takes a tenth of it.
const caseTime = 2 * time.Minute

// runCases runs a program that reports its cases by lines on standard output
// (Main.java says which), one subtest each, and returns their names in order.
// The program may ask for the broker to be killed or restarted.
func runCases(t *testing.T, b *broker, cmd *exec.Cmd) []string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr tail
	cmd.Stderr = &stderr
	start(t, cmd)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	var names []string
	for lines.Scan() {
		name, ok := strings.CutPrefix(lines.Text(), "@begin ")
		if !ok {
			t.Log(lines.Text())
			continue
		}
		names = append(names, name)
		t.Run(name, func(t *testing.T) {
			// Java prints what its threads do and goes on; the others end.
			late := time.AfterFunc(caseTime, func() { cmd.Process.Signal(syscall.SIGQUIT) })
			defer late.Stop()
			over := time.AfterFunc(caseTime+5*time.Second, func() { cmd.Process.Kill() })
			defer over.Stop()
			runCase(t, b, lines, in)
		})
	}
	if len(names) == 0 || t.Failed() {
		t.Logf("%s: standard error ends:\n%s", cmd.Args[0], &stderr)
	}
	if len(names) == 0 {
		t.Fatalf("%v ran no case", cmd.Args)
	}
	return names
}

// runCase reads the lines of one case.
func runCase(t *testing.T, b *broker, lines *bufio.Scanner, in io.Writer) {
	t.Helper()
	for lines.Scan() {
		switch verb, _, _ := strings.Cut(lines.Text(), " "); verb {
		case "@pass":
			return
		case "@fail":
			t.Fail()
			return
		case "@kill":
			b.restart(syscall.SIGKILL)
			fmt.Fprintln(in, "done")
		case "@restart":
			b.restart(syscall.SIGTERM)
			fmt.Fprintln(in, "done")
		default:
			t.Log(lines.Text())
		}
	}
	t.Fatal("the program ended within this case, or was stopped for taking too long")
}

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

func (w *tail) Write(p []byte) (int, error) {
	w.text = append(w.text, p...)
	w.text = w.text[max(0, len(w.text)-8<<10):]
	return len(p), nil
}

func (w *tail) String() string { return string(w.text) }
