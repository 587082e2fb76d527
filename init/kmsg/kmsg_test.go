//go:build linux

package kmsg

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLine(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(New(&out))
	for _, tc := range []struct {
		log  func()
		want string
	}{
		{func() { log.Info("ready") }, "<30>wayside: ready\n"},
		{func() { log.Warn("load", "module", "a b", "n", 3) }, "<28>wayside: load module=\"a b\" n=3\n"},
		{func() { log.With("unit", "broker").WithGroup("g").Error("x\ny", "k", "v") }, "<27>wayside: x | y unit=broker g.k=v\n"},
		{func() { log.Debug("noise") }, ""},
		{func() { log.Info(strings.Repeat("x", 2000)) }, "<30>wayside: " + strings.Repeat("x", maxRecord-13) + "…\n"},
	} {
		out.Reset()
		tc.log()
		if got := out.String(); got != tc.want {
			t.Errorf("got %q, want %q", got, tc.want)
		}
	}
}
