package console

import (
	"fmt"
	"strings"
	"time"
)

func orDash(s string) string { return orWord(s, "–") }

func trimDot(s string) string { return strings.TrimRight(strings.TrimSpace(s), ".") }

// bytesText is n in the units on a disk's label: powers of 1000.
func bytesText(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for f >= 999.5 && i < len(units)-1 {
		f, i = f/1000, i+1
	}
	if i == 0 || f >= 99.5 {
		return fmt.Sprintf("%.0f %s", f, units[i])
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// countText groups digits by threes with narrow no-break spaces, which every
// language reads.
func countText(n int64) string {
	s := fmt.Sprint(n)
	digits := strings.TrimPrefix(s, "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:]
	}
	return s[:len(s)-len(strings.TrimPrefix(s, "-"))] + digits
}

// durationText is d in one or two units.
func durationText(d time.Duration) string {
	d = max(0, d)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d d %d h", int(d.Hours())/24, int(d.Hours())%24)
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

func secondsOf(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
