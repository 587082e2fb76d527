//go:build linux

package supervise

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/init/reap"
	"github.com/waysideos/wayside/services/manifest"
)

// TestMain lets the test binary play the services that it starts; the package
// become makes it play init's binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child" {
		child(os.Args[2])
	}
	os.Exit(m.Run())
}

// child is a service; it speaks to its supervisor by the libraries that real
// services use.
func child(role string) {
	if fd, err := strconv.Atoi(os.Getenv(manifest.StartFD)); err == nil {
		if _, err := os.NewFile(uintptr(fd), "word").Read(make([]byte, 1)); err != nil {
			os.Exit(5)
		}
		_, err := os.Stat(os.Getenv("STATE_DIRECTORY"))
		fmt.Printf("began with its directory: %v\n", err == nil)
	}
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, unix.SIGTERM)
	switch role {
	case "echo": // sends back lines, on a listener handed over
		listeners, err := activation.ListenersWithNames()
		if err != nil || len(listeners["echo"]) != 1 {
			fmt.Printf("listeners %v, %v\n", listeners, err)
			os.Exit(1)
		}
		go serve(listeners["echo"][0])
	case "hang":
	case "crash":
		fmt.Println("about to crash")
		os.Exit(7)
	case "deaf":
		signal.Ignore(unix.SIGTERM)
	case "show":
		show()
	case "leave": // a process that leaves the session
		cmd := exec.Command(os.Args[0], "child", "hang")
		cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
		fmt.Println(cmd.Start(), cmd.Process.Pid)
		os.Exit(4)
	case "greedy":
		var all [][]byte
		for range 200 {
			all = append(all, bytes.Repeat([]byte{1}, 1<<20))
		}
		fmt.Println(len(all), "MiB were to be had")
		os.Exit(0)
	}
	daemon.SdNotify(false, "STATUS=serving\nREADY=1")
	<-terminated
	os.Exit(0)
}

func serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			line, _ := bufio.NewReader(c).ReadString('\n')
			if line == "die\n" {
				os.Exit(3)
			}
			fmt.Fprintf(c, "%d %s", os.Getpid(), line)
		}()
	}
}

// show prints what the process was given.
func show() {
	for _, name := range []string{"STATE_DIRECTORY", "RUNTIME_DIRECTORY", "WATCHDOG_USEC", "EXTRA", "HOME"} {
		fmt.Printf("%s=%s\n", name, os.Getenv(name))
	}
	text, err := os.ReadFile(filepath.Join(os.Getenv("CREDENTIALS_DIRECTORY"), "key"))
	fmt.Printf("credential %s %v\n", text, err)
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		for _, want := range []string{"Uid:", "Gid:", "Groups:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:"} {
			if strings.HasPrefix(line, want) {
				fmt.Println(strings.Join(strings.Fields(line), " "))
			}
		}
	}
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	fmt.Printf("nofile %d\n", limit.Max)
}

// bench runs one supervisor over real processes.
type bench struct {
	*Supervisor
	t     *testing.T
	log   *logged
	first chan int // pids of what was ready for the first time
	run   func()
	stop  func()
}

// logged keeps what was logged, as lines.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func childUnit(name, role string) manifest.Unit {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return manifest.Unit{
		Name: name, ExecStart: []string{exe, "child", role}, Type: manifest.Notify, Restart: manifest.RestartAlways,
		RestartDelay: 10 * time.Millisecond, RestartMaxDelay: 50 * time.Millisecond,
		TimeoutStart: 20 * time.Second, TimeoutStop: 20 * time.Second,
		StateDirectoryMode: 0o750, RuntimeDirectoryMode: 0o750,
	}
}

func newBench(t *testing.T, cgroups string, sockets []manifest.Socket, units ...manifest.Unit) *bench {
	t.Helper()
	b := idleBench(t, cgroups, sockets, units...)
	b.run()
	return b
}

// idleBench is one whose supervisor runs when told.
func idleBench(t *testing.T, cgroups string, sockets []manifest.Socket, units ...manifest.Unit) *bench {
	t.Helper()
	dir := t.TempDir()
	os.Chmod(filepath.Dir(dir), 0o755) // a user other than root must get to its directories
	os.Chmod(dir, 0o755)
	out := &logged{}
	log := slog.New(slog.NewTextHandler(io.MultiWriter(out, t.Output()), nil))
	reaper := reap.New(log)
	first := make(chan int, 16)
	s, err := New(Config{Ready: func(_ string, pid int) { first <- pid },
		Units: units, Sockets: sockets, Reaper: reaper, CgroupRoot: cgroups, Log: log,
		Env: []string{"PATH=/bin"}, RunDir: dir + "/run/wayside", StateRoot: dir + "/state", RuntimeRoot: dir + "/run"})
	if err != nil {
		t.Fatal(err)
	}
	reaping, stopReaping := context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	var reaped, ran sync.WaitGroup
	reaped.Go(func() { reaper.Run(reaping) })
	b := &bench{Supervisor: s, t: t, log: out, first: first, stop: func() { cancel(); ran.Wait() }}
	b.run = func() {
		ran.Go(func() {
			if err := s.Run(ctx); err != nil {
				t.Errorf("run: %v", err)
			}
		})
	}
	t.Cleanup(func() { b.stop(); stopReaping(); reaped.Wait() })
	return b
}

// until waits for a condition on the first service.
func (b *bench) until(what string, cond func(manifest.Service) bool) manifest.Service {
	b.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		s := b.Status()[0]
		if cond(s) {
			return s
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("no %s within 30 s: %+v", what, s)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (b *bench) untilReady() {
	b.t.Helper()
	select {
	case <-b.Ready():
	case <-time.After(30 * time.Second):
		b.t.Fatalf("not ready within 30 s: %+v", b.Status())
	}
}

func ask(t *testing.T, address, line string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		t.Fatalf("a client is refused: %v", err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintln(c, line)
	answer, _ := io.ReadAll(c)
	return string(answer)
}

func TestSocketSurvivesRestart(t *testing.T) {
	u := childUnit("echo", "echo")
	u.Sockets = []string{"echo"}
	b := newBench(t, "", []manifest.Socket{{Name: "echo", Listen: []string{"127.0.0.1:0"}, FDName: "echo", Service: "echo"}}, u)
	b.untilReady()
	l, err := net.FileListener(b.sockets["echo"].files[0])
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	first := ask(t, address, "one")
	before := b.Status()[0]
	if want := fmt.Sprintf("%d one\n", before.PID); first != want || before.Status != "serving" {
		t.Errorf("got %q, status %q; want %q, serving", first, before.Status, want)
	}
	ask(t, address, "die")
	// At once: the new process may not be there yet.
	second := ask(t, address, "two")
	after := b.until("restart", func(s manifest.Service) bool { return s.Ready && s.Restarts == 1 })
	if want := fmt.Sprintf("%d two\n", after.PID); second != want || after.LastExit != "exit status 3" {
		t.Errorf("got %q, last exit %q; want %q, exit status 3", second, after.LastExit, want)
	}
	if pid := <-b.first; pid != before.PID || len(b.first) != 0 {
		t.Errorf("told of process %d and %d others as ready for the first time, want %d alone", pid, len(b.first), before.PID)
	}
	b.stop()
	if s := b.Status()[0]; s.State != "stopped" || s.PID != 0 {
		t.Errorf("got %+v after stop, want stopped", s)
	}
	for _, want := range []string{"starting", "running", "backoff", "stopping", "stopped"} {
		if !strings.Contains(b.log.String(), `"service echo: `+want+`"`) {
			t.Errorf("log lacks service echo: %s", want)
		}
	}
}

// A renewed service listens where its socket was moved to, and no longer where
// it did.
func TestRenewAndMove(t *testing.T) {
	u := childUnit("echo", "echo")
	u.Sockets = []string{"echo"}
	b := newBench(t, "", []manifest.Socket{{Name: "echo", Listen: []string{"127.0.0.1:0"}, FDName: "echo", Service: "echo"}}, u)
	b.untilReady()
	before := b.Status()[0]
	if b.Move("echo", []string{"127.0.0.1:0"}) || b.Move("other", nil) {
		t.Error("a socket that stays where it is, or is not there, was moved")
	}
	if !b.Move("echo", []string{"127.0.0.2:0"}) {
		t.Error("the socket was not moved")
	}
	b.Renew("other")
	b.Renew("echo")
	after := b.until("another process", func(s manifest.Service) bool { return s.Ready && s.PID != before.PID })
	l, err := net.FileListener(b.sockets["echo"].files[0])
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	if got := ask(t, address, "one"); !strings.HasPrefix(address, "127.0.0.2:") || got != fmt.Sprintf("%d one\n", after.PID) {
		t.Errorf("%s says %q, want 127.0.0.2 and process %d", address, got, after.PID)
	}
	if after.Restarts != 0 {
		t.Errorf("got %d restarts counted, want none", after.Restarts)
	}
}

// A service whose first start is still to come is not started twice.
func TestRenewBeforeTheFirstStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unit := childUnit("late", "hang")
		s := newService(&unit, slog.New(slog.DiscardHandler))
		launched := 0
		s.launch = func(context.Context) (*process, error) { launched++; return nil, errors.New("out of memory") }
		before := make(chan struct{})
		s.startAfter = []<-chan struct{}{before}
		ctx, cancel := context.WithCancel(t.Context())
		go s.run(ctx)
		s.renew <- struct{}{}
		synctest.Wait()
		close(before)
		synctest.Wait()
		if launched != 1 {
			t.Errorf("launched %d times before its delay was over, want once", launched)
		}
		cancel()
		<-s.done
	})
}

func TestPanicIsGuarded(t *testing.T) {
	caught := make(chan string, 1)
	s, err := New(Config{Units: []manifest.Unit{childUnit("echo", "echo")}, Log: slog.New(slog.DiscardHandler), RunDir: t.TempDir(),
		Guard: func(what string) {
			if r := recover(); r != nil {
				caught <- what
			}
		}})
	if err != nil {
		t.Fatal(err)
	}
	s.services[0].launch = func(context.Context) (*process, error) { panic("oops") }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if got, want := <-caught, "supervision of echo"; got != want {
		t.Errorf("got a panic in %q, want it in %q", got, want)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run: %v", err)
	}
}

func TestCrashLoopGoesOn(t *testing.T) {
	b := newBench(t, "", nil, childUnit("crash", "crash"))
	s := b.until("fifth restart", func(s manifest.Service) bool { return s.Restarts >= 5 })
	if s.LastExit != "exit status 7" {
		t.Errorf("got last exit %q, want exit status 7", s.LastExit)
	}
	b.stop()
	if lines := b.Lines("crash"); len(lines) < 5 || lines[0] != "about to crash" {
		t.Errorf("got lines %q, want about to crash, five times or more", lines)
	}
}

func TestHungServiceIsAborted(t *testing.T) {
	u := childUnit("hang", "hang")
	u.Watchdog = 50 * time.Millisecond
	b := newBench(t, "", nil, u)
	s := b.until("watchdog", func(s manifest.Service) bool { return s.Restarts >= 1 })
	// Go's runtime answers ABRT with stacks and exit status 2.
	if s.LastExit != "exit status 2 (watchdog)" {
		t.Errorf("got last exit %q, want exit status 2 (watchdog)", s.LastExit)
	}
}

func TestDeafServiceIsKilled(t *testing.T) {
	u := childUnit("deaf", "deaf")
	u.TimeoutStop = 50 * time.Millisecond
	b := newBench(t, "", nil, u)
	b.untilReady()
	b.stop()
	if s := b.Status()[0]; s.LastExit != "signal: killed (did not stop within 50ms)" {
		t.Errorf("got last exit %q, want killed", s.LastExit)
	}
}

func TestMissingProgramIsSaid(t *testing.T) {
	u := childUnit("missing", "")
	u.ExecStart = []string{"/no/such/program"}
	b := newBench(t, "", nil, u)
	s := b.until("end", func(s manifest.Service) bool { return s.LastExit != "" })
	b.stop()
	if want := "wayside-exec: execute /no/such/program: no such file or directory"; s.LastExit != "exit status 203" || b.Lines("missing")[0] != want {
		t.Errorf("got %q, %q; want exit status 203, %q", s.LastExit, b.Lines("missing"), want)
	}
}

func TestWhatAServiceIsGiven(t *testing.T) {
	u := childUnit("show", "show")
	u.StateDirectory, u.RuntimeDirectory = []string{"show"}, []string{"show"}
	u.Environment = []string{"EXTRA=a b"}
	u.NoNewPrivileges, u.LimitNOFILE, u.Watchdog = true, 100, time.Minute
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret"), 0o400); err != nil {
		t.Fatal(err)
	}
	u.Credentials = []manifest.Credential{{ID: "key", Path: secret}}
	want := []string{"EXTRA=a b", "WATCHDOG_USEC=60000000", "credential s3cret <nil>", "NoNewPrivs: 1", "nofile 100"}
	if os.Geteuid() == 0 {
		// 65534 is a user on every system; its name is not.
		u.User, u.Group = "nobody", "daemon"
		u.AmbientCapabilities = []manifest.Capability{10} // CAP_NET_BIND_SERVICE
		u.BoundingSet, u.LimitBounding = u.AmbientCapabilities, true
		want = append(want, "Uid: 65534 65534 65534 65534", "Gid: 1 1 1 1", "Groups:",
			"CapEff: 0000000000000400", "CapBnd: 0000000000000400", "CapAmb: 0000000000000400")
		u.ExecStart[0] = publicCopy(t, u.ExecStart[0])
	}
	b := newBench(t, "", nil, u)
	b.untilReady()
	runtime := filepath.Join(b.cfg.RuntimeRoot, "show")
	if info, err := os.Stat(runtime); err != nil || info.Mode().Perm() != 0o750 {
		t.Errorf("runtime directory: got %v, %v; want mode 0750", info, err)
	}
	b.stop()
	want = append(want, "STATE_DIRECTORY="+b.cfg.StateRoot+"/show", "RUNTIME_DIRECTORY="+runtime)
	got := "\n" + strings.Join(b.Lines("show"), "\n") + "\n"
	for _, line := range want {
		if !strings.Contains(got, "\n"+line+"\n") {
			t.Errorf("the service does not see %q, it sees:\n%s", line, got)
		}
	}
	if _, err := os.Stat(runtime); !os.IsNotExist(err) {
		t.Errorf("runtime directory after the stop: got %v, want it gone", err)
	}
}

// publicCopy puts a program where every user may execute it.
func publicCopy(t *testing.T, file string) string {
	t.Helper()
	dir := t.TempDir()
	os.Chmod(filepath.Dir(dir), 0o755)
	os.Chmod(dir, 0o755)
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(dir+"/program", text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir + "/program"
}
