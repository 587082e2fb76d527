package catalog

import (
	"strconv"
	"strings"
	"time"
)

// ByDuration is how far back a value of auto.offset.reset of the form
// by_duration:PnDTnHnMn.nS begins (ISO 8601, as KIP-1106 has it); false for
// any other.
func ByDuration(value string) (time.Duration, bool) {
	text, ok := strings.CutPrefix(value, "by_duration:P")
	days, clock, timed := strings.Cut(text, "T")
	if !ok || days == "" && clock == "" || timed && clock == "" {
		return 0, false
	}
	var sum time.Duration
	for _, part := range []struct{ text, units string }{{days, "D"}, {clock, "HMS"}} {
		d, ok := durationOf(part.text, part.units)
		if !ok || sum+d < 0 {
			return 0, false
		}
		sum += d
	}
	return sum, true
}

var units = map[byte]time.Duration{'D': 24 * time.Hour, 'H': time.Hour, 'M': time.Minute, 'S': time.Second}

// durationOf reads numbers, each followed by a unit, in the order of units.
func durationOf(text, order string) (sum time.Duration, ok bool) {
	for text != "" {
		i := strings.IndexAny(text, order)
		if i < 0 {
			return 0, false
		}
		n, err := strconv.ParseFloat(text[:i], 64)
		d := n * float64(units[text[i]])
		if err != nil || !(n >= 0) || d > float64(100*365*24*time.Hour) || strings.ContainsAny(text[:i], "+-eExXiInN_") {
			return 0, false
		}
		sum += time.Duration(d)
		order = order[strings.IndexByte(order, text[i])+1:]
		text = text[i+1:]
	}
	return sum, true
}
