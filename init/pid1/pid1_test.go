//go:build linux

package pid1

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/init/status"
	"github.com/waysideos/wayside/init/supervise"
	"github.com/waysideos/wayside/services/site"
)

// testMachine is a machine without a log file, whose end is recorded.
func testMachine(t *testing.T) (*Machine, *ending) {
	t.Helper()
	m := newMachine(inRoot)
	e := &ending{}
	m.log.Store(slog.New(slog.NewTextHandler(e, nil)))
	m.resort.release = func() { e.note("release") }
	m.resort.sync = func() { e.note("sync") }
	m.resort.reboot = func(int) error { e.note("reboot"); return nil }
	m.resort.forever = func() { e.note("forever") }
	return m, e
}

// ending records what the failure path did, and the log.
type ending struct {
	mu    sync.Mutex
	did   []string
	lines bytes.Buffer
}

func (e *ending) note(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.did = append(e.did, what)
}

func (e *ending) Write(p []byte) (int, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lines.Write(p)
}

func (e *ending) order() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.did)
}

func (e *ending) log() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lines.String()
}

func TestFailurePath(t *testing.T) {
	for _, tc := range []struct {
		name string
		hurt func(*lastResort, func(string), <-chan struct{})
		want []string
	}{
		{"all goes well", func(*lastResort, func(string), <-chan struct{}) {}, []string{"release", "sync", "reboot", "forever"}},
		{"the disk hangs", func(l *lastResort, note func(string), end <-chan struct{}) {
			l.sync = func() { note("sync hangs"); <-end }
		}, []string{"release", "sync hangs", "reboot", "forever"}},
		{"unmounting hangs", func(l *lastResort, note func(string), end <-chan struct{}) {
			l.release = func() { note("release hangs"); <-end }
		}, []string{"release hangs", "sync", "reboot", "forever"}},
		{"unmounting panics", func(l *lastResort, _ func(string), _ <-chan struct{}) {
			l.release = func() { panic("broken") }
		}, []string{"sync", "reboot", "forever"}},
		{"the log panics", func(l *lastResort, _ func(string), _ <-chan struct{}) {
			l.log = func() *slog.Logger { panic("broken") }
		}, []string{"reboot", "forever"}},
		{"the reboot is refused", func(l *lastResort, note func(string), _ <-chan struct{}) {
			l.reboot = func(int) error { note("refused"); return errors.New("no") }
		}, []string{"release", "sync", "refused", "forever"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, e := testMachine(t)
				end := make(chan struct{})
				tc.hurt(m.resort, e.note, end)
				begin := time.Now()
				m.resort.fail("test", "detail")
				if took, most := time.Since(begin), m.resort.delay+2*(m.resort.limit+grace); took > most {
					t.Errorf("took %v, want at most %v", took, most)
				}
				if diff := cmp.Diff(tc.want, e.order()); diff != "" {
					t.Errorf("what was done (-want +got):\n%s", diff)
				}
				close(end)
				synctest.Wait()
			})
		})
	}
}

func TestSequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := testMachine(t)
		end := make(chan struct{})
		step := func(name string, needed bool, do func(context.Context) error) Step {
			return Step{name, func(ctx context.Context, _ *Machine) error { e.note(name); return do(ctx) }, needed, time.Second}
		}
		err := run(t.Context(), m, []Step{
			step("good", true, func(context.Context) error { return nil }),
			step("bad but not needed", false, func(context.Context) error { return errors.New("no room") }),
			step("panics", false, func(context.Context) error { panic("oops") }),
			step("slow", false, func(ctx context.Context) error { <-ctx.Done(); return errors.New("gave up in time") }),
			step("hangs", false, func(context.Context) error { <-end; return nil }),
			step("bad and needed", true, func(context.Context) error { return errors.New("no root") }),
			step("never reached", true, func(context.Context) error { return nil }),
		})
		if err == nil || err.Error() != "bad and needed: no root" {
			t.Errorf("got %v, want the needed step's error", err)
		}
		if got := e.order(); slices.Contains(got, "never reached") || len(got) != 6 {
			t.Errorf("got steps %q", got)
		}
		problems := strings.Join(m.Box().Problems, "\n")
		for _, want := range []string{"bad but not needed: no room", "panics: panic: oops", "slow: gave up in time", "hangs: hangs since 1s"} {
			if !strings.Contains(problems, want) {
				t.Errorf("got problems %q, want %q among them", problems, want)
			}
		}
		m.giveUp(err)
		if !strings.Contains(e.log(), `msg="reboot: bad and needed failed"`) || !strings.Contains(e.log(), `msg="no root"`) {
			t.Errorf("got log %q, want error and reason", e.log())
		}
		close(end)
		synctest.Wait()
	})
}

// A step that hangs in a way its deadline cannot end must not be fed for ever.
func TestWatchdogStarvesWhenTheSequenceHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := testMachine(t)
		var fed atomic.Int32
		m.Feeder.Attach(func() error { fed.Add(1); return nil })
		ctx, cancel := context.WithCancel(t.Context())
		go m.Feeder.Run(ctx, time.Second)
		m.Feeder.Extend(30*time.Second + 2*grace) // what run gives a step of 30 s
		time.Sleep(41 * time.Second)
		before := fed.Load()
		time.Sleep(time.Minute)
		if got := fed.Load(); got != before || before < 30 {
			t.Errorf("fed %d times in time and %d times after, want some 40 and none", before, got-before)
		}
		cancel()
		synctest.Wait()
	})
}

func TestPanicInBackgroundEndsInFailurePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := testMachine(t)
		m.Go("worker", func(context.Context) error { panic("oops") })
		m.owned.Wait()
		if got := e.order(); !slices.Contains(got, "reboot") || !strings.Contains(e.log(), "worker panicked") {
			t.Errorf("got %q and log %q, want a reboot", got, e.log())
		}
	})
}

// The packages of init defer lastly as a function that they were given.
func TestGuardedPanicEndsInFailurePath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := testMachine(t)
		func(guard func(string)) {
			defer guard("lease")
			panic("oops")
		}(m.lastly)
		if got := e.order(); !slices.Contains(got, "reboot") || !strings.Contains(e.log(), "lease panicked") {
			t.Errorf("got %q and log %q, want a reboot", got, e.log())
		}
	})
}

// A goroutine that failed and cannot even reboot must not be fed by a main
// loop that still turns.
func TestFailurePathStarvesTheWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := testMachine(t)
		m.resort.reboot = func(int) error { return errors.New("no") }
		m.Go("worker", func(context.Context) error { panic("oops") })
		m.owned.Wait()
		m.Feeder.Extend(time.Hour)
		var fed atomic.Int32
		m.Feeder.Attach(func() error { fed.Add(1); return nil })
		time.Sleep(2 * time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		go m.Feeder.Run(ctx, time.Second)
		time.Sleep(10 * time.Second)
		if got := fed.Load(); got != 0 {
			t.Errorf("fed %d times, want none", got)
		}
		cancel()
		synctest.Wait()
	})
}

// What the API is asked for ends the machine, in order.
func TestEndByTheAPI(t *testing.T) {
	for path, want := range map[string]int{"/reboot": unix.LINUX_REBOOT_CMD_RESTART, "/poweroff": unix.LINUX_REBOOT_CMD_POWER_OFF} {
		for name, deaf := range map[string]bool{"services stop": false, "services do not stop": true} {
			t.Run(path[1:]+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { endByTheAPI(t, path, want, deaf) })
			})
		}
	}
}

func endByTheAPI(t *testing.T, path string, want int, deaf bool) {
	m, e := testMachine(t)
	command := -1
	m.resort.reboot = func(c int) error { e.note("reboot"); command = c; return nil }
	m.resort.forever = func() { e.note("forever"); runtime.Goexit() }
	var err error
	if m.services, err = supervise.New(supervise.Config{Log: m.Log()}); err != nil {
		t.Fatal(err)
	}
	go func() {
		<-m.serving.Done()
		e.note("services")
		if !deaf {
			m.served <- nil
		}
	}()
	m.Go("worker", func(ctx context.Context) error { <-ctx.Done(); e.note("worker"); return nil })
	ended := make(chan struct{})
	begin := time.Now()
	go func() { defer close(ended); m.serve(nil) }()
	post(t, m, path)
	<-ended
	if diff := cmp.Diff([]string{"services", "worker", "release", "sync", "reboot", "forever"}, e.order()); diff != "" {
		t.Errorf("what was done (-want +got):\n%s", diff)
	}
	if command != want {
		t.Errorf("got reboot command %#x, want %#x", command, want)
	}
	if took := time.Since(begin); took > stopServices+turn || deaf == (took < stopServices) {
		t.Errorf("took %v, want the deadline of %v to count only for deaf services", took, stopServices)
	}
}

// post asks over the socket, as this process's own user.
func post(t *testing.T, m *Machine, path string) {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "init.sock")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- status.Serve(ctx, sock, m.api()) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for { // until it listens
			c, err := (&net.Dialer{}).DialContext(ctx, "unix", sock)
			if err == nil || ctx.Err() != nil {
				return c, err
			}
		}
	}}, Timeout: 20 * time.Second}
	answer, err := client.Post("http://init"+path, "", nil)
	if err != nil {
		t.Error(err)
	} else if answer.Body.Close(); answer.StatusCode != http.StatusAccepted {
		t.Errorf("got answer %d, want %d", answer.StatusCode, http.StatusAccepted)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestHugeProfileIsNotReadWhole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 1<<40); err != nil {
		t.Fatal(err)
	}
	text, err := readAtMost(file, site.MaxSize+1)
	if err != nil || len(text) != site.MaxSize+1 {
		t.Fatalf("got %d bytes, %v, want %d", len(text), err, site.MaxSize+1)
	}
	if _, err := site.Parse(layout.ESPSite, text); err == nil || !strings.Contains(err.Error(), "the most is") {
		t.Errorf("got %v, want it refused for its size", err)
	}
}

func TestTables(t *testing.T) {
	seen := map[string]bool{}
	check := func(name string, do bool, deadline time.Duration) {
		t.Helper()
		most := 5 * time.Minute
		if name == "installation" { // waits for a person
			most = 12 * time.Hour
		}
		if !do || deadline <= 0 || deadline > most || seen[name] {
			t.Errorf("step %q has no action, no sane deadline, or another's name", name)
		}
		seen[name] = true
	}
	for _, table := range [][]Step{Initramfs, Root} {
		seen = map[string]bool{}
		for _, s := range table {
			check(s.Name, s.Do != nil, s.Deadline)
		}
	}
	opened := map[gate]bool{}
	m, _ := testMachine(t)
	for _, table := range [][]beside{earlyBeside, rootBeside} {
		seen = map[string]bool{}
		for _, s := range table {
			check(s.Name, s.Do != nil, s.Deadline)
			if s.Opens != nil {
				opened[s.Opens(m)] = true
			}
		}
	}
	if !opened[m.firmware] || !opened[m.listed] || !opened[m.devices] || !opened[m.armed] {
		t.Error("a gate that the sequence waits at is opened by nobody")
	}
}

// What hangs beside the sequence holds up who waits for it, and nobody else,
// and does not feed the watchdog.
func TestBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, e := testMachine(t)
		end := make(chan struct{})
		m.Feeder.Extend(time.Second)
		var fed atomic.Int32
		m.Feeder.Attach(func() error { fed.Add(1); return nil })
		feeding, stop := context.WithCancel(t.Context())
		go m.Feeder.Run(feeding, 100*time.Millisecond)
		step := func(name string, do func() error, opens func(*Machine) gate) beside {
			return beside{name, func(context.Context, *Machine) error { e.note(name); return do() }, opens, 10 * time.Second}
		}
		err := m.besides([]beside{
			step("fails", func() error { return errors.New("no driver") }, func(m *Machine) gate { return m.firmware }),
			step("hangs", func() error { <-end; return nil }, func(m *Machine) gate { return m.devices }),
			step("last", func() error { return nil }, nil),
		})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if err := m.firmware.wait(t.Context()); err != nil || time.Since(begin) != 0 {
			t.Errorf("waited %v, %v for a step that failed", time.Since(begin), err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.devices.wait(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v while a step hangs", err)
		}
		if err := m.devices.wait(t.Context()); err != nil || time.Since(begin) != 10*time.Second+grace {
			t.Errorf("waited %v, %v for a step that hangs, want its deadline", time.Since(begin), err)
		}
		synctest.Wait()
		if got := e.order(); !slices.Equal(got, []string{"fails", "hangs", "last"}) {
			t.Errorf("got %q", got)
		}
		problems := strings.Join(m.Box().Problems, "\n")
		if !strings.Contains(problems, "fails: no driver") || !strings.Contains(problems, "hangs: hangs since 10s") {
			t.Errorf("got problems %q", problems)
		}
		if got := fed.Load(); got > 11 {
			t.Errorf("fed %d times, want no more than the lease of a second", got)
		}
		close(end)
		stop()
		m.stop()
		m.owned.Wait()
	})
}

// dm-verity keeps the hash that it finds: the root is opened when the fast one
// is there, or will not come.
func TestRootIsOpenedAfterListedModules(t *testing.T) {
	at := func(name string) int { return slices.IndexFunc(Initramfs, func(s Step) bool { return s.Name == name }) }
	between := Initramfs[at("find the booted slot")+1 : at("open the root")]
	for _, tc := range []struct {
		name     string
		loaded   time.Duration
		want     time.Duration
		problems int
	}{
		{"loaded", 2 * time.Second, 2 * time.Second, 0},
		{"hangs", time.Hour, 10 * time.Second, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, _ := testMachine(t)
				begin, opened := time.Now(), time.Duration(-1)
				loaded := time.AfterFunc(tc.loaded, func() { close(m.listed) })
				defer loaded.Stop()
				open := Step{"open the root", func(context.Context, *Machine) error { opened = time.Since(begin); return nil }, true, time.Second}
				if err := run(t.Context(), m, append(slices.Clone(between), open)); err != nil {
					t.Fatal(err)
				}
				if got := len(m.Box().Problems); opened != tc.want || got != tc.problems {
					t.Errorf("opened after %v with %d problems, want %v with %d", opened, got, tc.want, tc.problems)
				}
			})
		})
	}
}

// A step that is left behind while it starts services ahead works on what the
// services are run from.
func TestServicesWaitForWhatStartsThemAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := testMachine(t)
		var err error
		if m.services, err = supervise.New(supervise.Config{Log: m.Log(), RunDir: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
		defer m.endServe()
		err = bounded(m.background, time.Minute, func(ctx context.Context) error { return startServices(ctx, m) })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that it waits", err)
		}
		synctest.Wait()
		select {
		case <-m.services.Ready():
			t.Error("the services run")
		default:
		}
	})
}

// A driver that hangs is given up after a while, and does not keep a stick from
// installing until then.
func TestInstallerWaitsForDrivers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _ := testMachine(t)
		ctx, cancel := context.WithCancel(t.Context())
		begin := time.Now()
		time.AfterFunc(90*time.Second, cancel) // before any disk of this machine is looked at
		_, err := m.targets(ctx)
		if took := time.Since(begin); err == nil || took != 90*time.Second {
			t.Errorf("waited %v: %v; want all the time that drivers may take", took, err)
		}
	})
}

func TestParseCmdline(t *testing.T) {
	c := parseCmdline("ro wayside.epoch=1790000000 a=\"b c\" \"d=e f\" wayside.watchdog=6 x=1 x=2\n")
	for key, want := range map[string]string{"a": "b c", "d": "e f", "x": "2", "ro": "", "none": ""} {
		if c[key] != want {
			t.Errorf("%s: got %q, want %q", key, c[key], want)
		}
	}
	if got := c.epoch().Unix(); got != 1790000000 {
		t.Errorf("got epoch %d, want 1790000000", got)
	}
	if got := c.watchdog(time.Minute); got != 6*time.Second {
		t.Errorf("got watchdog %v, want 6s", got)
	}
	if got := parseCmdline("wayside.watchdog=-1").watchdog(time.Minute); got != time.Minute {
		t.Errorf("got watchdog %v for nonsense, want the default", got)
	}
}

func TestPowerButton(t *testing.T) {
	event := func(typ, code uint16, value uint32) []byte {
		b := make([]byte, eventSize)
		binary.NativeEndian.PutUint16(b[eventSize-8:], typ)
		binary.NativeEndian.PutUint16(b[eventSize-6:], code)
		binary.NativeEndian.PutUint32(b[eventSize-4:], value)
		return b
	}
	for _, tc := range []struct {
		name   string
		events []byte
		want   bool
	}{
		{"pressed", slices.Concat(event(4, 4, 7), event(evKey, keyPower, 1), event(0, 0, 0)), true},
		{"released", event(evKey, keyPower, 0), false},
		{"another key", event(evKey, 30, 1), false},
		{"cut short", event(evKey, keyPower, 1)[:eventSize-1], false},
		{"nothing", nil, false},
	} {
		if got := powerPressed(tc.events); got != tc.want {
			t.Errorf("%s: got %v, want %v", tc.name, got, tc.want)
		}
	}
	for mask, want := range map[string]bool{"10000000000000 0\n": true, "ffffffffffffffff\n": false, "": false, "0 zz 0": false} {
		if got := hasKey(mask, keyPower); got != want {
			t.Errorf("hasKey(%q): got %v, want %v", mask, got, want)
		}
	}
}

// Whatever manifest.Slots promises is there, even before init is that far.
func TestUpdateIsServed(t *testing.T) {
	m, _ := testMachine(t)
	h := status.Handler(m.api())
	for path, want := range map[string]int{
		"GET /update": 200, "POST /update/activate": 403, "POST /update/commit": 403, "POST /update/fail": 403,
		"POST /update/retry": 403, "POST /update/cancel": 403, "POST /reboot": 403,
	} {
		method, path, _ := strings.Cut(path, " ")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != want {
			t.Errorf("%s %s: got %d, want %d", method, path, w.Code, want)
		}
	}
}

func TestForeignDisk(t *testing.T) {
	for name, want := range map[string]bool{"sda": false, "sda1": false, "sdb": true, "sdb1": true, "sdaa1": true, "loop0": false, "dm-0": false} {
		if got := foreignDisk(name, "sda"); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if foreignDisk("nvme0n1p2", "nvme0n1") || foreignDisk("sdb", "") {
		t.Error("a partition of the booted disk is foreign, or any disk is when that is not known")
	}
}

func TestForVersion(t *testing.T) {
	m, _ := testMachine(t)
	m.cmd = cmdline{layout.CmdVersion: "2"}
	for item, want := range map[string]string{"root": "root", "root@2": "root", "root@1": "", "": ""} {
		if got := m.forVersion(item); got != want {
			t.Errorf("%q: got %q, want %q", item, got, want)
		}
	}
}

func TestKmsgLine(t *testing.T) {
	if got, ok := kmsgLine([]byte("6,339,5140900,-;NET: registered\n SUBSYSTEM=acpi\n")); !ok || got != "5140ms NET: registered" {
		t.Errorf("got %q, %v", got, ok)
	}
	if got, ok := kmsgLine([]byte("nonsense")); ok {
		t.Errorf("got %q", got)
	}
}

func FuzzParseCmdline(f *testing.F) {
	f.Add(`a="b c" d`)
	f.Fuzz(func(_ *testing.T, s string) { parseCmdline(s) })
}
