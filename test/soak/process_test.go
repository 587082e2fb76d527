// Package soak attacks a broker process and wears it: hostile clients within
// the memory of a box, and hours of load with restarts, kills and a full disk.
package soak

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waysideos/wayside/test/harness"
)

// unit says what the broker has on a box.
const unit = "overlays/base/rootfs/usr/lib/wayside/units/broker.service"

// process is `waysided broker` with the environment that it has on a box.
type process struct {
	t    *testing.T
	addr string
	dir  string // data, log and status socket
	data string
	bin  string
	env  []string
	cmd  *exec.Cmd
}

func TestMain(m *testing.M) { harness.Main(m) }

// startProcess starts a broker on a folder, and stops it when the test ends.
func startProcess(t *testing.T, bin, dir, data string) *process {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, addr: ln.Addr().String(), dir: dir, data: data, bin: bin, env: os.Environ()}
	ln.Close()
	text, err := os.ReadFile(filepath.Join(harness.Source(t), unit))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if env, ok := strings.CutPrefix(strings.TrimSpace(line), "Environment="); ok {
			p.env = append(p.env, env)
		}
	}
	t.Cleanup(func() {
		p.end(syscall.SIGTERM)
		if t.Failed() {
			log, _ := os.ReadFile(p.log())
			lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
			t.Logf("the broker's log ends:\n%s", bytes.Join(lines[max(0, len(lines)-20):], []byte("\n")))
		}
	})
	p.start()
	return p
}

func (p *process) log() string { return filepath.Join(p.dir, "log") }

// start returns when the broker has said that it listens.
func (p *process) start() {
	p.t.Helper()
	p.cmd = exec.Command(p.bin, "broker", "--data", p.data, "--listen", p.addr, "--run-dir", p.dir)
	p.cmd.Env = p.env
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stderr = log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	if !bufio.NewScanner(out).Scan() {
		p.t.Errorf("the broker ended: %v", p.cmd.Wait())
		p.cmd = nil
	}
}

// end has the process end by a signal.
func (p *process) end(sig os.Signal) {
	if p.cmd == nil {
		return
	}
	p.cmd.Process.Signal(sig)
	kill := time.AfterFunc(30*time.Second, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	err := p.cmd.Wait()
	if exit := new(exec.ExitError); sig == syscall.SIGTERM && errors.As(err, &exit) {
		p.t.Errorf("the broker's end: %v", err)
	}
	p.cmd = nil
}

// usage is what a process holds.
type usage struct {
	rss, peak  int64 // bytes
	anon       int64 // of rss, what no file backs
	fds        int
	goroutines int // -1: not known
}

func (p *process) usage() usage {
	pid := p.cmd.Process.Pid
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return usage{kb(text, "VmRSS:"), kb(text, "VmHWM:"), kb(text, "RssAnon:"), len(fds), p.goroutines()}
}

func kb(status []byte, name string) int64 {
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// goroutines asks the status socket.
func (p *process) goroutines() int {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(p.dir, "broker", "status.sock"))
		},
	}}
	resp, err := client.Get("http://broker/metrics")
	if err != nil {
		return -1
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if s, ok := strings.CutPrefix(lines.Text(), "go_goroutines "); ok {
			n, _ := strconv.Atoi(s)
			return n
		}
	}
	return -1
}

// confine puts the process into a control group of its own with so much
// memory, of either version; false where this machine does not allow it.
func (p *process) confine(bytes int64) bool {
	pid := p.cmd.Process.Pid
	for _, v := range []struct{ root, limit string }{
		{"/sys/fs/cgroup", "memory.max"}, {"/sys/fs/cgroup/memory", "memory.limit_in_bytes"},
	} {
		dir := filepath.Join(v.root, fmt.Sprintf("wayside-soak-%d", pid))
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		p.t.Cleanup(func() {
			p.end(syscall.SIGTERM)
			os.Remove(dir)
		})
		write := func(name, value string) bool {
			f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
			if err != nil {
				return false
			}
			_, err = f.WriteString(value)
			return errors.Join(err, f.Close()) == nil
		}
		if write(v.limit, fmt.Sprint(bytes)) && write("cgroup.procs", fmt.Sprint(pid)) {
			return true
		}
	}
	return false
}
