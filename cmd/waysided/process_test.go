package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/manifest"
)

// The test binary stands in for waysided when it is told to.
const actAsWaysided = "WAYSIDED_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(actAsWaysided) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// process is a waysided of its own.
type process struct {
	cmd    *exec.Cmd
	stdout *bufio.Reader
	dir    string      // for its sockets
	notes  chan string // sd_notify messages
}

// startProcess runs waysided below a supervisor that the test plays.
func startProcess(t *testing.T, env []string, files []*os.File, args ...string) *process {
	t.Helper()
	dir, err := os.MkdirTemp("", "waysided") // a unix socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &process{dir: dir, notes: make(chan string, 1000)}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: filepath.Join(dir, "notify")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { notify.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := notify.Read(buf)
			if err != nil {
				return
			}
			p.notes <- string(buf[:n])
		}
	}()
	// The shell gives the process its own pid as LISTEN_PID, as init/become does.
	p.cmd = exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0]}, args...)...)
	p.cmd.Env = append([]string{
		actAsWaysided + "=1",
		"NOTIFY_SOCKET=" + filepath.Join(dir, "notify"),
		"RUNTIME_DIRECTORY=" + filepath.Join(dir, "run"),
	}, env...)
	p.cmd.ExtraFiles = files
	p.cmd.Stderr = t.Output()
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill(); p.cmd.Wait() })
	return p
}

// waitNote returns when a message holds the words.
func (p *process) waitNote(t *testing.T, words string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case n := <-p.notes:
			if strings.Contains(n, words) {
				return
			}
		case <-deadline:
			t.Fatalf("no %q was notified in 30 s", words)
		}
	}
}

// exitCode waits for the end; stdout must be read before.
func (p *process) exitCode() int {
	var exit *exec.ExitError
	if err := p.cmd.Wait(); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// A supervised service speaks sd_notify, prints its port and nothing else on
// stdout, answers on its status socket and ends well on TERM.
func TestSupervisedProcess(t *testing.T) {
	p := startProcess(t, []string{"WATCHDOG_USEC=200000"}, nil,
		"console", "--listen", "127.0.0.1:0", "--run-dir", t.TempDir(), "--init-socket", "")
	line, err := p.stdout.ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("stdout: got %q (%v), want the address", line, err)
	}
	resp, err := http.Get("http://" + addr + "/healthz")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("healthz: got %v (%v), want 200", resp, err)
	}
	resp.Body.Close()
	p.waitNote(t, "READY=1")
	p.waitNote(t, "WATCHDOG=1")

	socket := filepath.Join(p.dir, "run", manifest.StatusSock)
	var report manifest.Report
	if err := json.Unmarshal([]byte(getUnix(t, socket, "/status")), &report); err != nil || report.Name != "console" || !report.OK {
		t.Errorf("status: got %+v (%v)", report, err)
	}
	if metrics := getUnix(t, socket, "/metrics"); !strings.Contains(metrics, "go_goroutines") || !strings.Contains(metrics, "wayside_console_requests_total") {
		t.Errorf("metrics lack the Go collector's or the console's own:\n%s", metrics)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != statusMode {
		t.Errorf("status socket: got %v (%v), want mode %v", info, err, statusMode)
	}

	p.cmd.Process.Signal(syscall.SIGTERM)
	p.waitNote(t, "STOPPING=1")
	rest, _ := io.ReadAll(p.stdout)
	if code := p.exitCode(); code != 0 || len(rest) > 0 {
		t.Errorf("after TERM: got exit status %d and %q more on stdout, want 0 and nothing", code, rest)
	}
	if _, err := os.Stat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("status socket after the end: got %v, want it gone", err)
	}
}

// A socket that the supervisor hands over by name is used instead of one of
// the service's own, and stdout stays empty.
func TestSocketActivation(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := startProcess(t, []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=console"}, []*os.File{file}, "console", "--init-socket", "")
	p.waitNote(t, "READY=1")
	resp, err := http.Get("http://" + l.Addr().String() + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	p.cmd.Process.Signal(syscall.SIGTERM)
	rest, _ := io.ReadAll(p.stdout)
	if code := p.exitCode(); code != 0 || len(rest) > 0 {
		t.Errorf("got exit status %d and %q on stdout, want 0 and nothing", code, rest)
	}
}

func TestCrashHook(t *testing.T) {
	p := startProcess(t, []string{"WAYSIDE_TEST=crash"}, nil, "console", "--listen", "127.0.0.1:0", "--init-socket", "")
	p.waitNote(t, "READY=1")
	io.ReadAll(p.stdout)
	if code := p.exitCode(); code != testExit {
		t.Errorf("got exit status %d, want %d", code, testExit)
	}
}

func TestBadProfileIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nsite: shop\nbrokr: {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "replicator", "--site", file)
	cmd.Env = []string{actAsWaysided + "=1"}
	out, err := cmd.CombinedOutput()
	want := "waysided: site profile is not valid:\n" + file + ":3:1: brokr: unknown field (did you mean \"broker\"?)\n"
	if err == nil || string(out) != want {
		t.Errorf("got %q (%v), want %q", out, err, want)
	}
}

func TestServiceArgs(t *testing.T) {
	tests := []struct{ argv, want []string }{
		{[]string{"/usr/bin/waysided", "broker", "--data", "d"}, []string{"broker", "--data", "d"}},
		{[]string{"/usr/bin/broker", "--data", "d"}, []string{"broker", "--data", "d"}},
		{[]string{"waysided"}, []string{}},
		{nil, nil},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, serviceArgs(tt.argv)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", tt.argv, diff)
		}
	}
}

// Clients outside are told the fixed address, those on the box what they
// dialled: a port that a hypervisor forwards does not exist inside.
func TestAdvertised(t *testing.T) {
	a, err := advertised("", "box.example.com:19092", false)
	if err != nil {
		t.Fatal(err)
	}
	local := addrConn{addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092}}
	outside := addrConn{addr: &net.TCPAddr{IP: net.IPv4(10, 0, 2, 15), Port: 9092}}
	if host, port := a.tell(local); host != "127.0.0.1" || port != 9092 {
		t.Errorf("on the box: got %s:%d", host, port)
	}
	if host, port := a.tell(outside); host != "box.example.com" || port != 19092 {
		t.Errorf("outside: got %s:%d", host, port)
	}
	for _, bad := range []string{"box", ":1", "box:0", "box:99999"} {
		if _, err := advertised(bad, "", false); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
	if a, err := advertised("", "", false); a != nil || err != nil {
		t.Errorf("nothing given: got %v, %v", a, err)
	}
}

type addrConn struct {
	net.Conn
	addr net.Addr
}

func (c addrConn) LocalAddr() net.Addr { return c.addr }

func getUnix(t *testing.T, socket, path string) string {
	t.Helper()
	c := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		Dial:              func(_, _ string) (net.Conn, error) { return net.Dial("unix", socket) },
	}}
	resp, err := c.Get("http://box" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// A process that was started ahead does nothing before the word, and exits
// without it.
func TestStartedAhead(t *testing.T) {
	for _, word := range []string{"", "x"} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "data")
		p := startProcess(t, []string{manifest.StartFD + "=3"}, []*os.File{r}, "broker", "--data", dir, "--listen", "127.0.0.1:0")
		r.Close()
		w.WriteString(word)
		w.Close()
		if word == "" {
			if code := p.exitCode(); code != 1 {
				t.Errorf("without the word: got exit status %d, want 1", code)
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("it has begun without the word")
			}
			continue
		}
		p.waitNote(t, "READY=1")
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("ready without its data: %v", err)
		}
	}
}
