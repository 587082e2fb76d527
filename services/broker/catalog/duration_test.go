package catalog

import (
	"testing"
	"time"
)

func TestByDuration(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"by_duration:P1D": 24 * time.Hour, "by_duration:PT1H": time.Hour, "by_duration:P1DT2H3M4.5S": 26*time.Hour + 3*time.Minute + 4500*time.Millisecond,
		"by_duration:PT0S": 0, "by_duration:P": -1, "by_duration:PT": -1, "by_duration:P1DT": -1, "by_duration:PT1D": -1, "by_duration:P1H": -1,
		"by_duration:PT1M2H": -1, "by_duration:PT-1H": -1, "by_duration:PT1": -1, "by_duration:PTxH": -1, "by_duration:PT0x1H": -1,
		"by_duration:PT1e9H": -1, "by_duration:P99999999999D": -1, "by_duration:PTNaNH": -1, "latest": -1, "P1D": -1, "": -1,
	} {
		got, ok := ByDuration(value)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %v, %v, want %v", value, got, ok, want)
		}
	}
}
