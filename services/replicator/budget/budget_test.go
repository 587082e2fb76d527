package budget

import (
	"testing"
	"time"

	"github.com/waysideos/wayside/services/site"
)

func at(t *testing.T, s string) time.Time {
	t.Helper()
	out, err := time.Parse("2006-01-02 15:04:05", s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func made(t *testing.T, b site.Budget) *Budget {
	t.Helper()
	out, err := New(b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRate(t *testing.T) {
	b := made(t, site.Budget{Rate: "64kbit/s"})
	now := at(t, "2026-11-28 12:00:00")
	if d := b.Wait(now); d != 0 {
		t.Errorf("waits %v before anything is sent", d)
	}
	b.Spend(now, 16_000)
	if d := b.Wait(now); d != 2*time.Second {
		t.Errorf("after 16000 bytes at 8000 a second: %v, want 2s", d)
	}
	if d := b.Wait(now.Add(1500 * time.Millisecond)); d != 500*time.Millisecond {
		t.Errorf("1.5 s later: %v, want 0.5s", d)
	}
	b.Spend(now.Add(time.Hour), 8000)
	if d := b.Wait(now.Add(time.Hour)); d != time.Second {
		t.Errorf("an idle hour counts for later: %v, want 1s", d)
	}
	if d := b.Wait(now.Add(-time.Hour)); d > time.Second {
		t.Errorf("a clock set back waits %v", d)
	}
}

// A clock that was years ahead has no day begin while it is believed, but the next
// day does; a little set back begins none.
func TestClockAhead(t *testing.T) {
	b := made(t, site.Budget{Day: "10B"})
	b.Spend(at(t, "2099-01-01 00:00:00"), 10)
	for s, want := range map[string]bool{"2026-11-28 12:00:00": true, "2026-11-28 23:59:59": true} {
		if got := b.Spent(at(t, s)); got != want {
			t.Errorf("%s: spent %v, want %v", s, got, want)
		}
	}
	if b.Spent(at(t, "2026-11-29 00:00:00")) {
		t.Error("the next day has not begun")
	}
	b.Spend(at(t, "2026-11-29 00:00:01"), 10)
	if !b.Spent(at(t, "2026-11-28 23:59:59")) || !b.Spent(at(t, "2026-11-29 00:00:02")) {
		t.Error("a clock that is set back by seconds at midnight begins a day twice")
	}
}

func TestWindows(t *testing.T) {
	b := made(t, site.Budget{Rate: "1kB/s", Except: []site.RateWindow{
		{From: "22:00", To: "06:00", Days: []string{"fri"}, Rate: "none"},
		{From: "12:00", To: "13:00", Rate: "2kB/s"},
	}})
	for s, want := range map[string]int64{
		"2026-11-27 21:59:59": 1000, // a Friday
		"2026-11-27 22:00:00": 0,
		"2026-11-28 05:59:00": 0,
		"2026-11-28 06:00:00": 1000,
		"2026-11-28 22:30:00": 1000,
		"2026-11-28 12:30:00": 2000,
		"1970-01-02 12:30:00": 1000, // the clock is not set
	} {
		if got := b.Rate(at(t, s)); got != want {
			t.Errorf("%s: got %d, want %d", s, got, want)
		}
	}
}

func TestDayAndMonth(t *testing.T) {
	b := made(t, site.Budget{Day: "1kB", Month: "2kB"})
	now := at(t, "2026-11-28 23:00:00")
	b.Spend(now, 999)
	if b.Spent(now) {
		t.Error("999 of 1000 bytes are too many")
	}
	b.Spend(now, 1)
	if !b.Spent(now) {
		t.Error("1000 of 1000 bytes are not enough")
	}
	again := made(t, site.Budget{Day: "1kB", Month: "2kB"})
	again.Restore(b.Used(now))
	if !again.Spent(now) {
		t.Error("a restart gives the day anew")
	}
	next := now.Add(2 * time.Hour)
	if again.Spent(next) {
		t.Error("the next day is spent")
	}
	again.Spend(next, 1000)
	if !again.Spent(now) {
		t.Error("a clock set back gives the day before anew")
	}
	if day := at(t, "2026-11-30 00:00:00"); !again.Spent(day) {
		t.Error("2000 of 2000 bytes of the month are not enough")
	}
	if month := at(t, "2026-12-01 00:00:00"); again.Spent(month) {
		t.Error("the next month is spent")
	}
}
