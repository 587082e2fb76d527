package main

import (
	"os"
	"strings"
	"testing"
)

// TestLetGoOfStart: fewer pages of the program are mapped after it, and the
// program goes on.
func TestLetGoOfStart(t *testing.T) {
	before := fileRSS(t)
	letGoOfStart()
	if after := fileRSS(t); after >= before {
		t.Errorf("%d kB of files are mapped after it, %d before", after, before)
	}
}

func fileRSS(t *testing.T) (kb int) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "RssFile:"); ok {
			for _, c := range rest {
				if c >= '0' && c <= '9' {
					kb = kb*10 + int(c-'0')
				}
			}
			return kb
		}
	}
	t.Fatal("the kernel does not tell RssFile")
	return 0
}
