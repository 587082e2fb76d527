//go:build linux

package supervise

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/waysideos/wayside/init/reap"
	"github.com/waysideos/wayside/services/manifest"
)

// stage plays the kernel for services of one test, in order of events.
type stage struct {
	t      *testing.T
	mu     sync.Mutex
	events []string
	pid    int
	notes  map[string]chan note
	exits  map[string]chan reap.Exit
	refuse map[string]error // launch fails
	deaf   map[string]bool  // TERM is not obeyed
}

func newStage(t *testing.T) *stage {
	return &stage{t: t, notes: map[string]chan note{}, exits: map[string]chan reap.Exit{},
		refuse: map[string]error{}, deaf: map[string]bool{}}
}

type fakeGroup struct {
	stage *stage
	name  string
}

func (fakeGroup) fd() int            { return -1 }
func (fakeGroup) holds(pid int) bool { return pid == 4711 } // a child of any service
func (fakeGroup) memory() int64      { return 123 }
func (fakeGroup) oomKills() int64    { return 0 }
func (g fakeGroup) kill() error      { return nil }

func (s *stage) service(u *manifest.Unit) *service {
	sv := newService(u, slog.New(slog.DiscardHandler))
	notes := make(chan note)
	sv.notes, s.notes[u.Name] = notes, notes
	sv.launch = func(context.Context) (*process, error) {
		if err := s.refuse[u.Name]; err != nil {
			return nil, err
		}
		s.event("start " + u.Name)
		s.pid++
		exit := make(chan reap.Exit, 1)
		s.exits[u.Name] = exit
		return &process{pid: s.pid, exit: exit, group: fakeGroup{s, u.Name},
			signal: func(sig os.Signal) error { s.signal(u.Name, sig); return nil },
			finish: func() bool { s.event("end " + u.Name); return false },
		}, nil
	}
	return sv
}

func (s *stage) event(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, text)
}

func (s *stage) signal(name string, sig os.Signal) {
	s.event(sig.String() + " " + name)
	if sig == unix.SIGTERM && s.deaf[name] {
		return
	}
	s.exits[name] <- reap.Exit{Status: unix.WaitStatus(sig.(unix.Signal))}
}

// play runs the services wired as a Supervisor would.
func (s *stage) play(units []manifest.Unit, script func(byName map[string]*service, stop func())) {
	synctest.Test(s.t, func(t *testing.T) {
		byName := map[string]*service{}
		ctx, stop := context.WithCancel(t.Context())
		for i := range units {
			sv := s.service(&units[i])
			if err := wire(sv, byName); err != nil {
				t.Fatal(err)
			}
			byName[units[i].Name] = sv
		}
		for _, sv := range byName {
			go sv.run(ctx)
		}
		script(byName, stop)
		stop()
		for _, sv := range byName {
			<-sv.done
		}
	})
}

func unitsAB() []manifest.Unit {
	a, b := *testUnit(), *testUnit()
	a.Name, b.Name, b.After = "a", "b", []string{"a"}
	return []manifest.Unit{a, b}
}

func TestOrderOfStartAndStop(t *testing.T) {
	s := newStage(t)
	units := unitsAB()
	units[1].TimeoutStop = stopWait / 2
	s.play(units, func(svc map[string]*service, stop func()) {
		synctest.Wait()
		if diff := cmp.Diff([]string{"start a"}, s.events); diff != "" {
			t.Errorf("before a is ready (-want +got):\n%s", diff)
		}
		s.notes["a"] <- note{pid: 1, ready: true}
		synctest.Wait()
		s.notes["b"] <- note{pid: 2, ready: true}
		synctest.Wait()
		s.deaf["b"] = true
		stop()
		<-svc["a"].done
	})
	want := []string{"start a", "start b", "terminated b", "killed b", "end b", "terminated a", "end a"}
	if diff := cmp.Diff(want, s.events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

// A chain of services that all ignore TERM ends within the wait and the
// longest of their deadlines, not within the sum of them.
func TestStopOfADeafChainIsBounded(t *testing.T) {
	units := append(unitsAB(), *testUnit())
	units[2].Name, units[2].After = "c", []string{"b"}
	for i := range units {
		units[i].TimeoutStop = 20 * time.Second
	}
	s := newStage(t)
	s.play(units, func(svc map[string]*service, stop func()) {
		for i, name := range []string{"a", "b", "c"} {
			synctest.Wait()
			s.notes[name] <- note{pid: i + 1, ready: true}
			s.deaf[name] = true
		}
		synctest.Wait()
		begin := time.Now()
		stop()
		<-svc["a"].done
		if took, most := time.Since(begin), stopWait+20*time.Second; took > most {
			t.Errorf("took %v to stop, want at most %v", took, most)
		}
	})
	if got := s.events[3]; got != "terminated c" {
		t.Errorf("got %q first at the stop, want the last of the chain", got)
	}
}

// After waits for a decision, not for success: a broken service must not keep
// the status page from starting. Requires waits for success.
func TestAfterAndRequiresOfAFailingService(t *testing.T) {
	for _, tc := range []struct {
		change func(*manifest.Unit)
		starts bool
	}{
		{func(u *manifest.Unit) {}, true},
		{func(u *manifest.Unit) { u.After, u.Requires = nil, []string{"a"} }, false},
	} {
		s := newStage(t)
		s.refuse["a"] = errors.New("no such program")
		units := unitsAB()
		tc.change(&units[1])
		s.play(units, func(svc map[string]*service, _ func()) {
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if got := slices.Contains(s.events, "start b"); got != tc.starts {
				t.Errorf("After %v, Requires %v: got b started %v, want %v", units[1].After, units[1].Requires, got, tc.starts)
			}
			a := svc["a"].snapshot()
			if a.State != "backoff" || a.LastExit != "no such program" || a.Restarts < 10 {
				t.Errorf("got %+v, want a in backoff after at least 10 restarts", a)
			}
		})
	}
}

func TestNotesOnlyFromTheServiceItself(t *testing.T) {
	s := newStage(t)
	s.play(unitsAB()[:1], func(svc map[string]*service, _ func()) {
		text := "serving"
		for _, step := range []struct {
			note note
			want manifest.Service
		}{
			{note{pid: 99, ready: true, status: &text}, manifest.Service{State: "starting", PID: 1}},
			{note{pid: 4711, status: &text}, manifest.Service{State: "starting", PID: 1, Status: "serving"}},
			{note{pid: 1, ready: true}, manifest.Service{State: "running", Ready: true, PID: 1, Status: "serving"}},
		} {
			s.notes["a"] <- step.note
			synctest.Wait()
			got := svc["a"].snapshot()
			step.want.Name, step.want.Memory, step.want.Since = "a", 123, got.Since
			if diff := cmp.Diff(step.want, got); diff != "" {
				t.Errorf("after %+v (-want +got):\n%s", step.note, diff)
			}
		}
	})
}

func TestWatchdogInTheLoop(t *testing.T) {
	s := newStage(t)
	s.play(unitsAB()[:1], func(svc map[string]*service, _ func()) {
		synctest.Wait()
		s.notes["a"] <- note{pid: 1, ready: true}
		for range 5 {
			time.Sleep(25 * time.Second)
			s.notes["a"] <- note{pid: 1, keepalive: true}
		}
		time.Sleep(40 * time.Second)
		synctest.Wait()
		want := []string{"start a", "aborted a", "end a", "start a"}
		if diff := cmp.Diff(want, s.events); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
		if got := svc["a"].snapshot(); got.Restarts != 1 || got.LastExit != "signal: aborted (watchdog)" {
			t.Errorf("got %+v, want one restart for the watchdog", got)
		}
	})
}

// The hardware watchdog is fed by this: a loop that sleeps for long must
// still show that it lives.
func TestBeatWhileIdle(t *testing.T) {
	s := newStage(t)
	s.play(unitsAB()[:1], func(svc map[string]*service, _ func()) {
		time.Sleep(15 * time.Second)
		synctest.Wait()
		if age := time.Since(*svc["a"].beat.Load()); age > beatEvery {
			t.Errorf("got last beat %v ago, want at most %v", age, beatEvery)
		}
	})
}

// A step of the clock must not make a hung loop look alive, nor a live one
// hung.
func TestBeatIsMonotonic(t *testing.T) {
	sv := newService(testUnit(), slog.New(slog.DiscardHandler))
	sv.live()
	if beat := *sv.beat.Load(); beat == beat.Round(0) {
		t.Errorf("got beat %v, want one with a monotonic reading", beat)
	}
}
