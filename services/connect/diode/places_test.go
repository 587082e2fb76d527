package diode

import (
	"fmt"
	"testing"
)

// A sender of others may name any number of topics; those that are in use are
// remembered.
func TestPlacesAreBounded(t *testing.T) {
	p, ours := newPlaces(), place{"sensors", 3}
	for i := range int64(3 * maxPlaces) {
		p.set(place{fmt.Sprint("other-", i), 0}, i)
		if i%1000 == 0 {
			p.set(ours, i)
		}
	}
	if len(p.by) != maxPlaces {
		t.Errorf("%d are remembered, want %d", len(p.by), maxPlaces)
	}
	if next, known := p.of(ours); !known || next != 3*maxPlaces/1000*1000 {
		t.Errorf("next is %d, %v", next, known)
	}
	if _, known := p.of(place{"other-0", 0}); known {
		t.Error("the first is remembered")
	}
}
