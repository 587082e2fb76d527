package pid1

import (
	"strconv"
	"strings"
	"time"

	"github.com/waysideos/wayside/image/layout"
)

// cmdline is the kernel's command line as words. The UKI's signature covers
// it, so it is trusted.
type cmdline map[string]string

// cmdWatchdog sets the hardware watchdog's timeout in seconds.
const cmdWatchdog = "wayside.watchdog"

// parseCmdline splits at blanks outside of double quotes, as the kernel does.
// The last of equal words counts.
func parseCmdline(text string) cmdline {
	c := cmdline{}
	quoted := false
	for _, word := range strings.FieldsFunc(text, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && strings.ContainsRune(" \t\n", r)
	}) {
		key, value, _ := strings.Cut(strings.ReplaceAll(word, `"`, ""), "=")
		c[key] = value
	}
	return c
}

// epoch is the build's time: the lowest that the clock may show.
func (c cmdline) epoch() time.Time {
	s, err := strconv.ParseInt(c[layout.CmdEpoch], 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(s, 0)
}

func (c cmdline) watchdog(otherwise time.Duration) time.Duration {
	s, err := strconv.Atoi(c[cmdWatchdog])
	if err != nil || s < 2 || s > 600 {
		return otherwise
	}
	return time.Duration(s) * time.Second
}

// watchdogs are the modules of the board's hardware watchdogs, the preferred
// one first.
func (c cmdline) watchdogs() []string {
	if c[layout.CmdWatchdogs] == "" {
		return nil
	}
	return strings.Split(c[layout.CmdWatchdogs], ",")
}
