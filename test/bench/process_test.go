package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Every server and every client of a measurement is a process of its own, so
// that its CPU time and memory are its own. All but the broker and Kafka are
// this test's binary in a role, which it takes from the environment.
const (
	roleEnv = "WAYSIDE_BENCH_ROLE"
	jobEnv  = "WAYSIDE_BENCH_JOB"
)

// job is what a role is told; each takes what it needs.
type job struct {
	Addr, Topic, Codec, Mode, Dir      string
	Partitions, Conns, Window, Records int
	Size                               int // bytes of a record's value
	Acks                               int
	Rate                               int // records per second
	Bytes                              int64
	Seconds                            float64 // when not Bytes: how long
	Plain                              bool    // the server is a control, which speaks no Kafka
}

// result is what a client has measured.
type result struct {
	Seconds        float64
	Bytes          int64
	Requests       int64
	P50, P99, P999 float64 // of acknowledgements, ms
	E50, E99, E999 float64 // from sending to receiving, ms
	CPU            float64 // seconds of the client
}

var roles = map[string]func(job) (any, error){
	"sink": sinkServer, "sendfile": sendfileServer, "kfake": kfakeServer,
	"fdatasync": syncLoop, "raw-produce": rawProduce, "raw-fetch": rawFetch,
	"franz-produce": franzProduce, "franz-consume": franzConsume, "latency": latency,
	"hold": holdConnections, "poll": poll, "slow-read": slowRead, "watch": watch,
}

func TestMain(m *testing.M) {
	name := os.Getenv(roleEnv)
	if name == "" {
		os.Exit(m.Run())
	}
	if err := play(name); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func play(name string) error {
	var j job
	if err := json.Unmarshal([]byte(os.Getenv(jobEnv)), &j); err != nil {
		return err
	}
	r, err := roles[name](j)
	if err != nil {
		return err
	}
	if res, ok := r.(*result); ok {
		res.CPU = cpuOf(os.Getpid())
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// serving tells the address and returns when the parent has gone.
func serving(addr string) {
	fmt.Println("listening on", addr)
	io.Copy(io.Discard, os.Stdin)
}

// process is a server.
type process struct {
	name string
	addr string
	pid  int
	took time.Duration // from start to ready
	stop func()
}

// start runs a command that prints "listening on ADDRESS" when it is ready.
func start(t testing.TB, name string, cmd *exec.Cmd) *process {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, _ := cmd.StdinPipe()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if !ok {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("start %s: got %q, %v\n%s", name, line, err, text)
	}
	p := &process{name: name, addr: addr, pid: cmd.Process.Pid, took: time.Since(begin)}
	stopped := false
	p.stop = func() {
		if stopped {
			return
		}
		stopped = true
		in.Close()
		cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
		defer kill.Stop()
		cmd.Wait()
	}
	t.Cleanup(p.stop)
	return p
}

func roleCmd(name string, j job) *exec.Cmd {
	b, _ := json.Marshal(j)
	exe, _ := os.Executable()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleEnv+"="+name, jobEnv+"="+string(b))
	return cmd
}

// server runs a role that serves.
func server(t testing.TB, role string, j job) *process {
	t.Helper()
	return start(t, role, roleCmd(role, j))
}

// client runs a role to its end.
func client(t testing.TB, role string, j job) *result {
	t.Helper()
	return begin(t, role, j).wait(t)
}

// running is a client under way.
type running struct {
	role string
	cmd  *exec.Cmd
	out  strings.Builder
	errs strings.Builder
	in   io.WriteCloser
}

func begin(t testing.TB, role string, j job) *running {
	t.Helper()
	r := &running{role: role, cmd: roleCmd(role, j)}
	r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errs
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	r.in, _ = r.cmd.StdinPipe()
	if err := r.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", role, err)
	}
	return r
}

// wait waits for the end, which closing stdin brings about for some roles.
func (r *running) wait(t testing.TB) *result {
	t.Helper()
	limit := time.AfterFunc(3*time.Minute, func() { r.cmd.Process.Kill() })
	defer limit.Stop()
	if err := r.cmd.Wait(); err != nil {
		t.Fatalf("%s: %v\n%s", r.role, err, r.errs.String())
	}
	var res result
	if err := json.Unmarshal([]byte(r.out.String()), &res); err != nil {
		t.Fatalf("%s: got %q: %v", r.role, r.out.String(), err)
	}
	return &res
}

func (r *running) end(t testing.TB) *result {
	t.Helper()
	r.in.Close()
	return r.wait(t)
}

// tick is what /proc/stat counts CPU time in: USER_HZ, 100 on every Linux there is.
const tick = 0.01

// cpuOf is the CPU seconds that a process has used, its ended threads too, by
// its CPU clock: clock_getcpuclockid(3), finer than /proc.
func cpuOf(pid int) float64 {
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &t); err != nil {
		return 0
	}
	return float64(t.Nano()) / 1e9
}

// busy is the CPU seconds that all processes have used.
func busy() float64 {
	b, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(b), "\n")
	var sum float64
	for i, f := range strings.Fields(line)[1:] {
		if n, _ := strconv.ParseFloat(f, 64); i != 3 && i != 4 && i < 8 { // idle, iowait; guests count as user
			sum += n
		}
	}
	return sum * tick
}

// memory is a process's resident memory in MB: all of it, what no file backs,
// and the most it ever had.
type memory struct{ Total, Anon, Peak float64 }

func memoryOf(pid int) memory {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	var m memory
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		if len(f) == 0 {
			continue
		}
		kb, _ := strconv.ParseFloat(f[0], 64)
		switch name {
		case "VmRSS":
			m.Total = kb / 1000
		case "RssAnon":
			m.Anon = kb / 1000
		case "VmHWM":
			m.Peak = kb / 1000
		}
	}
	return m
}
