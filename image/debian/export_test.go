package debian

import (
	"os"
	"time"
)

// NoWait makes an archive repeat failed requests at once.
func NoWait(a *Archive) { a.wait = func(int) time.Duration { return 0 } }

// Extract unpacks a .deb into an empty folder.
func Extract(deb *os.File, dir string) error { return extract(deb, dir) }
