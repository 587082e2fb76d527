//go:build linux

package pid1

import (
	"testing"
	"time"

	"github.com/waysideos/wayside/services/site"
)

// A stick that hangs as it is mounted keeps nobody from changing the profile.
func TestRemovableWishes(t *testing.T) {
	var r removable
	r.Lock() // as while one is mounted
	defer r.Unlock()
	sink := func(stick string) *site.Profile {
		return &site.Profile{Connect: site.Connect{FileSink: []site.FileSink{{Stick: stick}}}}
	}
	usb := &site.Profile{Update: site.Update{Sources: []string{site.SourceUSB}}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, c := range []struct {
			name    string
			p       *site.Profile
			changed bool
		}{
			{"nothing at first", &site.Profile{}, false}, {"updates", usb, true}, {"the same", usb, false},
			{"files", sink("out"), true}, {"other files", sink("in"), true}, {"no stick", sink(""), true},
		} {
			if got := r.want(c.p); got != c.changed {
				t.Errorf("%s: got changed %v", c.name, got)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for the disk that is being mounted")
	}
}
