package store

import "errors"

// errMapFull ends the reading of keys.
var errMapFull = errors.New("no room for more keys")

// learn fills the map with the keys of [from, upTo) and returns how far they
// fit.
func (r *run) learn(from, upTo int64) (int64, error) {
	for i, seg := range r.segs {
		if i+1 < len(r.segs) && r.segs[i+1].base <= from {
			continue
		}
		reached := upTo
		err := r.each(seg, func(b *stored) (err error) {
			if b.LastOffset() < from || b.Attributes&attrControl != 0 || (b.Transactional() && r.c.isAborted(b)) {
				return nil
			}
			reached, err = r.learnBatch(b, from, upTo)
			return err
		})
		if err == errMapFull {
			return reached, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return upTo, nil
}

type foundKey struct {
	key    keyHash
	offset int64
}

// maxFound is how many keys are held until their batch is known to be
// readable; one with more records is read twice.
const maxFound = 4096

// learnBatch learns nothing from a batch that cannot be read to its end: no
// consumer gets the records at its beginning, so that what they would replace
// must stay.
func (r *run) learnBatch(b *stored, from, upTo int64) (int64, error) {
	twice := b.Records > maxFound
	if twice && r.c.keys.each(b.Header, b.records(), func(int, keyed) bool { return false }) != nil {
		return upTo, nil
	}
	r.found = r.found[:0]
	reached, full := upTo, false
	err := r.c.keys.each(b.Header, b.records(), func(_ int, rec keyed) bool {
		offset := b.BaseOffset + rec.deltaOffset
		switch {
		case !rec.hasKey || offset < from:
		case !twice:
			r.found = append(r.found, foundKey{rec.key, offset})
		case !r.c.newest.put(rec.key, offset):
			reached, full = offset, true
		}
		return full
	})
	if err != nil {
		return upTo, nil
	}
	for _, k := range r.found {
		if !r.c.newest.put(k.key, k.offset) {
			return k.offset, errMapFull
		}
	}
	if full {
		return reached, errMapFull
	}
	return upTo, nil
}
