package firstboot

import (
	"io"
	"maps"
	"math/rand/v2"

	"github.com/waysideos/wayside/init/gpt"
)

type sector [gpt.Sector]byte

// crashDisk is a sparse disk that remembers every sector written and every
// flush, so that a test can go back to any instant.
type crashDisk struct {
	sectors uint64
	now     map[uint64]sector
	start   map[uint64]sector // content before the first write
	log     []event
}

// event is a sector written, or a flush (data nil).
type event struct {
	at   uint64
	data *sector
}

func newCrashDisk(sectors uint64, content map[uint64]sector) *crashDisk {
	return &crashDisk{sectors: sectors, now: maps.Clone(content), start: content}
}

func (d *crashDisk) ReadAt(p []byte, off int64) (int, error) {
	for n := range p {
		at := uint64(off) + uint64(n)
		if at/gpt.Sector >= d.sectors {
			return n, io.EOF
		}
		if at%gpt.Sector == 0 && len(p)-n >= gpt.Sector { // whole sector at once
			s := d.now[at/gpt.Sector]
			copy(p[n:], s[:])
			continue
		}
		p[n] = d.now[at/gpt.Sector][at%gpt.Sector]
	}
	return len(p), nil
}

func (d *crashDisk) WriteAt(p []byte, off int64) (int, error) {
	for n := 0; n < len(p); {
		at := uint64(off) + uint64(n)
		if at/gpt.Sector >= d.sectors {
			return n, io.ErrShortWrite
		}
		s := d.now[at/gpt.Sector]
		n += copy(s[at%gpt.Sector:], p[n:])
		d.now[at/gpt.Sector] = s
		d.log = append(d.log, event{at / gpt.Sector, &s})
	}
	return len(p), nil
}

func (d *crashDisk) Sync() error {
	d.log = append(d.log, event{})
	return nil
}

// cuts calls check with the disk as it may be found after a power cut at each
// instant: what was flushed is there, of the rest nothing, all, or any part.
func (d *crashDisk) cuts(seed uint64, check func(instant int, after *crashDisk)) {
	random := rand.New(rand.NewPCG(seed, 0))
	durable := maps.Clone(d.start)
	var pending []event
	for i, e := range d.log {
		if e.data == nil {
			for _, w := range pending {
				durable[w.at] = *w.data
			}
			pending = nil
			continue
		}
		pending = append(pending, e)
		for _, keep := range []func(int) bool{
			func(int) bool { return false },
			func(int) bool { return true },
			func(n int) bool { return n == len(pending)-1 },
			func(n int) bool { return n != 0 },
			func(int) bool { return random.IntN(2) == 0 },
			func(int) bool { return random.IntN(8) == 0 },
		} {
			after := maps.Clone(durable)
			for n, w := range pending {
				if keep(n) {
					after[w.at] = *w.data
				}
			}
			check(i, newCrashDisk(d.sectors, after))
		}
	}
}
