//go:build linux

package clock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/services/vfs"
)

// fake is a kernel clock that is off from the test's own by some amount.
type fake struct {
	mu     sync.Mutex
	off    time.Duration
	events []string
}

func (f *fake) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Now().Add(f.off)
}

func (f *fake) step(t time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off = t.Sub(time.Now())
	f.events = append(f.events, "step")
	return nil
}

func (f *fake) slew(d time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.off += d
	f.events = append(f.events, "slew")
	return nil
}

func (f *fake) synchronised(time.Duration) error { return nil }

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

const year = 365 * 24 * time.Hour

func TestFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, tc := range []struct {
			name         string
			epoch, saved time.Duration // from now; 0 saved is none
			known        []time.Time
			off          time.Duration // of the clock at boot
			want         time.Duration // of the clock after Floor
			source       string
		}{
			{"a good hardware clock is left alone", -year, -time.Hour, nil, 0, 0, "rtc"},
			{"1970 becomes the build", -time.Hour, 0, nil, -30 * year, -time.Hour, "floor"},
			{"1970 becomes the saved time", -year, -time.Hour, nil, -30 * year, -time.Hour, "floor"},
			{"a new release is later than the saved time", -time.Hour, -year, nil, -30 * year, -time.Hour, "floor"},
			{"other evidence counts", -year, -year, []time.Time{now.Add(-time.Minute)}, -30 * year, -time.Minute, "floor"},
			{"never backwards over the floor", -year, -time.Hour, nil, -2 * time.Hour, -time.Hour, "floor"},
			{"a clock beyond belief is as good as none", -year, -time.Hour, nil, 70 * year, -time.Hour, "floor"},
		} {
			fsys := vfs.NewCrashable(1)
			if tc.saved != 0 {
				if err := save(fsys, now.Add(tc.saved)); err != nil {
					t.Fatal(err)
				}
			}
			sys := &fake{off: tc.off}
			c := New(Config{FS: fsys, Epoch: now.Add(tc.epoch), Known: tc.known, Log: quietLog()})
			c.sys = sys
			if err := c.Floor(); err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			if got := c.Status().Source; sys.off != tc.want || got != tc.source {
				t.Errorf("%s: got clock %v from now, source %s; want %v, %s", tc.name, sys.off, got, tc.want, tc.source)
			}
		}
	})
}

func TestPanicIsGuarded(t *testing.T) {
	caught := make(chan string, 1)
	c := New(Config{Epoch: time.Now(), Log: quietLog(), Guard: func(what string) {
		if r := recover(); r != nil {
			caught <- what
		}
	}})
	c.query = func(context.Context, string) (sample, error) { panic("oops") }
	if got := c.ask(t.Context(), []string{"ntp.example.org"}); len(got) != 0 {
		t.Errorf("got %v, want no sample", got)
	}
	if got, want := <-caught, "query of time server ntp.example.org"; got != want {
		t.Errorf("got a panic in %q, want it in %q", got, want)
	}
}

func TestFloorWithASpoiltFile(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	if err := fsys.MkdirAll(savedDir); err != nil {
		t.Fatal(err)
	}
	if err := vfs.WriteWhole(fsys, savedDir+"/"+savedFile, []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	sys := &fake{off: -70 * year}
	epoch := time.Now().Add(-time.Hour)
	c := New(Config{FS: fsys, Epoch: epoch, Log: quietLog()})
	c.sys = sys
	if err := c.Floor(); err == nil {
		t.Error("got no error for a spoilt file, want one")
	}
	if sys.now().Before(epoch) {
		t.Errorf("got clock %v, want the epoch %v all the same", sys.now(), epoch)
	}
}

func TestJudge(t *testing.T) {
	now := time.Unix(2_000_000_000, 0)
	const ms, s = time.Millisecond, time.Second
	for _, tc := range []struct {
		name    string
		samples []sample
		want    correction
		offset  time.Duration
	}{
		{"nobody", nil, leave, 0},
		{"near is slewed", []sample{{"a", 100 * ms, 10 * ms}}, slew, 100 * ms},
		{"far is stepped", []sample{{"a", 200 * ms, 10 * ms}}, step, 200 * ms},
		{"far back is stepped above the floor", []sample{{"a", -30 * s, 10 * ms}}, step, -30 * s},
		{"below the floor is a lie", []sample{{"a", -61 * s, 10 * ms}}, leave, -61 * s},
		{"beyond belief is a lie", []sample{{"a", 40 * year, 10 * ms}}, leave, 40 * year},
		{"the majority, by its most exact member", []sample{{"a", 5 * s, 30 * ms}, {"liar", 900 * s, ms}, {"b", 5*s + 20*ms, 10 * ms}}, step, 5*s + 20*ms},
		{"two who differ decide nothing", []sample{{"a", 5 * s, 10 * ms}, {"b", 9 * s, 10 * ms}}, leave, 5 * s},
	} {
		got := judge(now, now.Add(-time.Minute), now.Add(lifetime), tc.samples)
		if got.do != tc.want || got.offset != tc.offset || (got.do == leave) != (got.reason != "") {
			t.Errorf("%s: got %+v, want %d by %v", tc.name, got, tc.want, tc.offset)
		}
	}
}

func TestRunSynchronisesAndSaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		truth := time.Now().Add(90 * 24 * time.Hour)
		off := truth.Sub(time.Now())
		fsys, sys := vfs.NewCrashable(1), &fake{}
		var asked []string
		c := New(Config{FS: fsys, Epoch: time.Now().Add(-time.Hour), Log: quietLog(),
			Servers: func() []string { return []string{"silent", "rude", "true"} }})
		c.sys = sys
		var mu sync.Mutex
		c.query = func(_ context.Context, server string) (sample, error) {
			mu.Lock()
			asked = append(asked, server)
			first := len(asked) <= 3
			mu.Unlock()
			switch {
			case server == "rude":
				return sample{}, kissOfDeath("DENY")
			case server == "silent" || first:
				return sample{}, errors.New("no answer")
			}
			return sample{server, time.Now().Add(off).Sub(sys.now()), 10 * time.Millisecond}, nil
		}
		if err := c.Floor(); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		got := c.Status()
		want := manifest.Clock{Synchronised: true, Source: "ntp:true", Floor: got.Floor}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		if behind := sys.now().Sub(got.Floor); behind < 0 || behind > time.Second {
			t.Errorf("got a floor %v behind the clock, want a little", behind)
		}
		mu.Lock()
		rude := 0
		for _, s := range asked {
			if s == "rude" {
				rude++
			}
		}
		if rude != 1 {
			t.Errorf("got the rude server asked %d times in half an hour, want once", rude)
		}
		mu.Unlock()
		if sys.events[0] != "step" || len(sys.events) < 5 || sys.events[1] != "slew" {
			t.Errorf("got corrections %v, want one step, then slews", sys.events)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		saved, err := load(fsys)
		if err != nil || sys.now().Sub(saved).Abs() > time.Second {
			t.Errorf("got saved time %v, %v; want %v", saved, err, sys.now())
		}
	})
}

// A hardware clock that is wrong by years must not become the floor: the
// floor moves by the uptime only.
func TestFloorDoesNotFollowTheHardwareClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys, epoch := vfs.NewCrashable(1), time.Now().Add(-time.Hour)
		c := New(Config{FS: fsys, Epoch: epoch, Log: quietLog()})
		c.sys = &fake{off: 5 * year}
		if err := c.Floor(); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
		defer stop()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		saved, err := load(fsys)
		if want := epoch.Add(10 * time.Minute); err != nil || !saved.Equal(want) {
			t.Errorf("got saved time %v, %v; want %v", saved, err, want)
		}
	})
}

// After a cut anywhere while saving, the old or the new time is there.
func TestSaveSurvivesPowerCut(t *testing.T) {
	before, after := time.Unix(1000, 0).UTC(), time.Unix(2000, 0).UTC()
	var order []string
	for cut := 0; ; cut++ {
		for seed := range uint64(20) {
			fsys := vfs.NewCrashable(seed)
			if err := save(fsys, before); err != nil {
				t.Fatal(err)
			}
			n := 0
			order = nil
			fsys.SetHook(func(op vfs.Op, name string) error {
				if n++; n > cut {
					return errors.New("power is gone")
				}
				order = append(order, fmt.Sprint(op, " ", name))
				return nil
			})
			done := save(fsys, after) == nil
			fsys.SetHook(nil)
			got, err := load(fsys.Crash())
			if err != nil || !got.Equal(before) && !got.Equal(after) || done && !got.Equal(after) {
				t.Fatalf("cut after %q, seed %d: got %v, %v; want one of the two times", order, seed, got, err)
			}
			if done && seed == 19 {
				want := []string{"mkdir clock", "create clock/last.new", "write clock/last.new", "sync clock/last.new",
					"rename clock/last.new -> clock/last", "syncdir clock", "syncdir ."}
				if diff := cmp.Diff(want, order); diff != "" {
					t.Errorf("order of operations (-want +got):\n%s", diff)
				}
				return
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(encode(time.Unix(1_700_000_000, 5)))
	f.Add(encode(time.Unix(-1, 0)))
	f.Add([]byte("WTIM"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := decode(b)
		if err == nil && !cmp.Equal(encode(got)[8:16], b[8:16]) {
			t.Errorf("%x reads as %v, which is written %x", b, got, encode(got))
		}
	})
}

// TestQuery speaks NTP to a server that a test can shape.
func TestQuery(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stratum := make(chan byte, 1)
	go answerNTP(conn, stratum)
	stratum <- 2
	s, err := query(t.Context(), conn.LocalAddr().String())
	if err != nil || (s.offset-time.Hour).Abs() > time.Minute || s.server != conn.LocalAddr().String() {
		t.Errorf("got %+v, %v; want an hour's offset", s, err)
	}
	stratum <- 0
	var kiss kissOfDeath
	if _, err := query(t.Context(), conn.LocalAddr().String()); !errors.As(err, &kiss) || kiss != "RATE" {
		t.Errorf("got %v, want the kiss of death RATE", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := query(ctx, conn.LocalAddr().String()); err == nil {
		t.Error("got an answer after the end, want an error")
	}
}

// answerNTP is a server an hour ahead (RFC 5905, 7.3).
func answerNTP(conn net.PacketConn, stratum <-chan byte) {
	buf := make([]byte, 512)
	for {
		n, from, err := conn.ReadFrom(buf)
		if err != nil || n < 48 {
			return
		}
		out := make([]byte, 48)
		out[0], out[1], out[2], out[3] = 4<<3|4, <-stratum, 6, 0xec
		copy(out[12:], "RATE")
		now := time.Now().Add(time.Hour)
		seconds := uint64(now.Unix()+2208988800)<<32 | uint64(now.Nanosecond())<<32/1e9
		for i, at := range []int{16, 32, 40} {
			v := seconds
			if i == 0 {
				v -= 10 << 32
			}
			for j := range 8 {
				out[at+j] = byte(v >> (56 - 8*j))
			}
		}
		copy(out[24:32], buf[40:48])
		conn.WriteTo(out, from)
	}
}
