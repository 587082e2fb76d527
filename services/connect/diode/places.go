package diode

// maxPlaces bounds what a receiver remembers: without a key anybody may name
// any number of topics. Their position is one record, of less than 1 MB.
const maxPlaces = 2048

// places are the offsets that come next, by partition.
type places struct {
	by   map[place]*expected
	tick uint64
}

type expected struct {
	next int64
	tick uint64 // when it was set
}

func newPlaces() *places { return &places{by: map[place]*expected{}} }

func (p *places) of(at place) (next int64, known bool) {
	if e := p.by[at]; e != nil {
		return e.next, true
	}
	return 0, false
}

// set forgets the partition that was not heard of for longest where there are
// too many: of that no gap is told then, and what comes again is taken twice.
func (p *places) set(at place, next int64) {
	p.tick++
	if p.by[at] == nil && len(p.by) >= maxPlaces {
		p.forgetOldest()
	}
	p.by[at] = &expected{next, p.tick}
}

func (p *places) forgetOldest() {
	var oldest place
	tick := p.tick
	for at, e := range p.by {
		if e.tick < tick {
			oldest, tick = at, e.tick
		}
	}
	delete(p.by, oldest)
}
