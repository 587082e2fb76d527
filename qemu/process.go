package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
)

// Exit says how a machine ended.
type Exit struct {
	CameUp bool   // QEMU answered on its control socket, so the guest ran
	Asked  string // what was done to it: "power cut", "shut down", "quit"; "" if it went by itself
	Reason string // QEMU's word for the guest's end: "guest-shutdown", "guest-panic"; may be ""
	Status string // "exit status 0", "signal: killed"
	Stderr string // the end of what QEMU itself had to say
}

// Error tells a machine that never came up from one that ran and died.
func (e *Exit) Error() string {
	detail := e.Status
	if e.Reason != "" {
		detail = e.Reason + ", " + detail
	}
	if e.Stderr != "" {
		detail += ": " + e.Stderr
	}
	switch {
	case !e.CameUp:
		return "machine never came up (" + detail + ")"
	case e.Asked != "":
		return "machine is off after " + e.Asked + " (" + detail + ")"
	}
	return "machine ran and died (" + detail + ")"
}

// process is one run of QEMU, from power on to power off. Its goroutine ends
// with it; done is closed when QEMU is reaped and exit is set.
type process struct {
	cmd  *exec.Cmd
	ctrl *qmp // nil until QEMU answers

	mu     sync.Mutex
	asked  string
	events int // position of ExpectEvent

	done chan struct{}
	exit *Exit
}

// tailBuffer keeps the end of what is written to it. The buffer is not
// embedded: io.Copy would use its ReadFrom and pass Write by.
type tailBuffer struct{ buf bytes.Buffer }

func (t *tailBuffer) Write(p []byte) (int, error) {
	if over := t.buf.Len() + len(p) - 4096; over > 0 {
		t.buf.Next(over)
	}
	return t.buf.Write(p)
}

func (t *tailBuffer) String() string { return t.buf.String() }

// launch starts QEMU with control at descriptor fdQMP, and the connections of
// disk and TPM, where they are not nil, at fdDisk and fdTPM. It returns when
// QEMU answers; an error that is an *Exit means it never came up. console gets
// its output.
func launch(ctx context.Context, path string, args []string, console io.Writer, disk, tpm *os.File) (*process, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("make the control socket: %v", err)
	}
	stderr := &tailBuffer{}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = console, stderr
	cmd.ExtraFiles = []*os.File{theirs, disk, tpm}
	cmd.SysProcAttr = dieWithParent()
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started, stderr)
	err = <-started
	theirs.Close()
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start %s: %v", path, err)
	}
	ctrl, err := openQMP(ctx, ours)
	if err != nil {
		p.cmd.Process.Kill()
		<-p.done
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start %s: %w", path, ctx.Err())
		}
		return nil, p.exit
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exit != nil { // it answered and was gone
		ctrl.close()
		return nil, p.exit
	}
	p.ctrl = ctrl
	return p, nil
}

// run starts QEMU and reaps it. It stays on one thread: the kernel sends the
// parent-death signal when the thread that forked ends.
func (p *process) run(started chan<- error, stderr *tailBuffer) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.exit = &Exit{Asked: p.asked, Status: "exit status 0", Stderr: strings.TrimSpace(stderr.String())}
	if err != nil {
		p.exit.Status = err.Error()
	}
	if p.ctrl == nil {
		return
	}
	<-p.ctrl.done // it has read everything QEMU said
	p.exit.CameUp = true
	if e, ok := p.ctrl.last("SHUTDOWN"); ok {
		var data struct{ Reason string }
		if json.Unmarshal(e.Data, &data) == nil {
			p.exit.Reason = data.Reason
		}
	}
	p.ctrl.close()
}

// ask notes what is being done to the machine, for its Exit.
func (p *process) ask(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked == "" {
		p.asked = what
	}
}

// kill ends QEMU as a power cut would and waits until it is gone.
func (p *process) kill(why string) error {
	p.ask(why)
	err := p.cmd.Process.Kill()
	<-p.done
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// socketPair makes a connection for us and a file for a child.
func socketPair() (net.Conn, *os.File, error) {
	mine, theirs, err := filePair()
	if err != nil {
		return nil, nil, err
	}
	defer mine.Close() // FileConn has its own duplicate
	conn, err := net.FileConn(mine)
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}

// filePair makes the two ends of a connection.
func filePair() (one, other *os.File, err error) {
	syscall.ForkLock.RLock()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}
