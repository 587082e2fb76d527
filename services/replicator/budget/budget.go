// Package budget says how many bytes a link may send now: at a rate, which
// may be another at night, and no more than so many a day and a month.
package budget

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waysideos/wayside/services/site"
)

// Budget counts what a link uses of its uplink. All times are UTC.
type Budget struct {
	rate       int64 // bytes a second, 0: no limit
	day, month int64 // bytes, 0: no limit
	except     []window

	mu   sync.Mutex
	used Used
	debt float64 // bytes sent beyond the rate
	at   time.Time
}

// Used is what counts for a day and a month.
type Used struct {
	Day        string `json:"day"` // 2006-01-02
	DayBytes   int64  `json:"day_bytes"`
	MonthBytes int64  `json:"month_bytes"`
}

// window is a time of day with a rate of its own.
type window struct {
	from, to int // minutes of the day
	days     []string
	rate     int64 // 0: no limit
}

// clockSet is a time before which this machine's clock is wrong for sure:
// windows and days are not looked at.
var clockSet = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

// New makes a budget of one that site.Parse has found right.
func New(b site.Budget) (*Budget, error) {
	out := &Budget{}
	var err error
	if out.rate, err = site.ParseRate(b.Rate); err != nil {
		return nil, err
	}
	if out.day, err = site.ParseSize(b.Day); err != nil {
		return nil, err
	}
	if out.month, err = site.ParseSize(b.Month); err != nil {
		return nil, err
	}
	for _, w := range b.Except {
		from, err1 := minutes(w.From)
		to, err2 := minutes(w.To)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		rate := int64(0)
		if w.Rate != "none" {
			if rate, err = site.ParseRate(w.Rate); err != nil {
				return nil, err
			}
		}
		out.except = append(out.except, window{from, to, w.Days, rate})
	}
	return out, nil
}

func minutes(clock string) (int, error) {
	t, err := time.Parse("15:04", clock)
	return t.Hour()*60 + t.Minute(), err
}

// Rate is what holds at a time, in bytes a second; 0 is no limit.
func (b *Budget) Rate(now time.Time) int64 {
	if now.Before(clockSet) {
		return b.rate
	}
	for _, w := range b.except {
		if w.holds(now.UTC()) {
			return w.rate
		}
	}
	return b.rate
}

func (w window) holds(now time.Time) bool {
	m := now.Hour()*60 + now.Minute()
	on := func(t time.Time) bool {
		return len(w.days) == 0 || slices.Contains(w.days, strings.ToLower(t.Weekday().String()[:3]))
	}
	if w.from <= w.to {
		return m >= w.from && m < w.to && on(now)
	}
	return m >= w.from && on(now) || m < w.to && on(now.AddDate(0, 0, -1))
}

// Spend counts bytes that went over the uplink.
func (b *Budget) Spend(now time.Time, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pay(now)
	b.turn(now)
	b.debt += float64(n)
	b.used.DayBytes += n
	b.used.MonthBytes += n
}

// pay takes off the debt what the rate has allowed since the last time.
func (b *Budget) pay(now time.Time) {
	rate := b.Rate(now)
	if rate == 0 {
		b.debt = 0
	} else if passed := now.Sub(b.at); passed > 0 {
		b.debt = max(0, b.debt-float64(rate)*passed.Seconds())
	}
	b.at = now
}

// turn begins a new day and month. A clock that is set back begins none, but the
// day is the one that it says: else a clock that was once years ahead would have
// no day begin for years.
func (b *Budget) turn(now time.Time) {
	today := now.UTC().Format(time.DateOnly)
	if now.Before(clockSet) {
		return
	}
	if tomorrow := now.UTC().AddDate(0, 0, 1).Format(time.DateOnly); b.used.Day > tomorrow {
		b.used.Day = today
	}
	if today <= b.used.Day {
		return
	}
	if len(b.used.Day) < 7 || today[:7] != b.used.Day[:7] {
		b.used.MonthBytes = 0
	}
	b.used.Day, b.used.DayBytes = today, 0
}

// Wait is how long to send nothing, since more was sent than the rate allows.
func (b *Budget) Wait(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pay(now)
	rate := b.Rate(now)
	if rate == 0 || b.debt <= 0 {
		return 0
	}
	return time.Duration(b.debt / float64(rate) * float64(time.Second))
}

// Spent is true when the day's or the month's bytes are used up.
func (b *Budget) Spent(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(now)
	return b.day > 0 && b.used.DayBytes >= b.day || b.month > 0 && b.used.MonthBytes >= b.month
}

// Limited is true when days or months have a limit, and so what is used is
// worth keeping.
func (b *Budget) Limited() bool { return b.day > 0 || b.month > 0 }

// Used is what counts now.
func (b *Budget) Used(now time.Time) Used {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turn(now)
	return b.used
}

// Restore continues from what Used said before a restart.
func (b *Budget) Restore(u Used) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used = u
}
