//go:build linux

package clock

import (
	"fmt"
	"time"
)

// stepBeyond is the offset above which the clock is stepped. Below, it is
// slewed by the kernel, which gains half a millisecond a second: this offset
// takes some four minutes (the same limit as ntpd's).
const stepBeyond = 128 * time.Millisecond

// sample is one server's word.
type sample struct {
	server   string
	offset   time.Duration // to add to our clock
	distance time.Duration // greatest error of offset (RFC 5905, root distance)
}

// verdict says what to do about the clock.
type verdict struct {
	sample
	do     correction
	reason string // why leave was chosen
}

type correction int

const (
	leave correction = iota
	slew
	step
)

// judge decides by a majority: most of the servers that answered must agree
// within their own errors. A target outside of [floor, ceiling] is a lie,
// whoever tells it.
func judge(now, floor, ceiling time.Time, samples []sample) verdict {
	if len(samples) == 0 {
		return verdict{reason: "no time server has answered"}
	}
	best, most := sample{}, 0
	for _, s := range samples {
		n := 0
		for _, other := range samples {
			if (s.offset - other.offset).Abs() <= s.distance+other.distance {
				n++
			}
		}
		if n > most || n == most && s.distance < best.distance {
			best, most = s, n
		}
	}
	v := verdict{sample: best}
	target := now.Add(best.offset)
	switch {
	case 2*most <= len(samples):
		v.reason = fmt.Sprintf("%d time servers do not agree", len(samples))
	case target.Before(floor):
		v.reason = fmt.Sprintf("%s says %s, which is before the trusted floor %s", best.server, stamp(target), stamp(floor))
	case target.After(ceiling):
		v.reason = fmt.Sprintf("%s says %s, which is beyond belief", best.server, stamp(target))
	case best.offset.Abs() > stepBeyond:
		v.do = step
	default:
		v.do = slew
	}
	return v
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
