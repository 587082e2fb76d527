package replicator

import "github.com/twmb/franz-go/pkg/kgo"

// rounds cuts what is to be produced into what may be on its way together.
//
// In a transaction that is all of it: what lies behind a refused batch is
// given up with it. Without one, at most one batch of a partition of the
// destination is on its way, whichever lanes and topics it is of. A broker that
// knows nothing of a producer takes a batch whatever its sequence, and franz-go
// gives a refused producer new numbers: what lies behind a refused batch would
// be taken, and come again with the rest.
func (l *link) rounds(outs []out) [][]out {
	if l.ledger.exact {
		return [][]out{outs}
	}
	type filling struct{ round, size int }
	var all [][]out
	at := map[destKey]filling{}
	for _, o := range outs {
		k := destKey{o.r.Topic, o.r.Partition}
		f, begun := at[k]
		n := wireSize(o.r)
		switch {
		case !begun && !l.ledger.met[o.r.Topic]:
			// franz-go buffers records of a topic that it has yet to look up one
			// by one, and sends the first ones alone.
			n = roundMax
		case f.size > 0 && f.size+n > roundMax:
			f = filling{round: f.round + 1}
		}
		f.size += n
		at[k] = f
		if f.round == len(all) {
			all = append(all, nil)
		}
		all[f.round] = append(all[f.round], o)
	}
	return all
}

// roundMax is what fits a batch beside its own header.
const roundMax = maxBatch - 61

// wireSize is the most that a record takes of a batch: five lengths are
// varints of up to five bytes, its time and offset of up to ten and five.
func wireSize(r *kgo.Record) int {
	n := 41 + len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += 10 + len(h.Key) + len(h.Value)
	}
	return n
}

// meet notes which topics the producer knows.
func (d *ledger) meet(round []out) {
	if d.exact {
		return
	}
	for _, o := range round {
		d.met[o.r.Topic] = true
	}
}
