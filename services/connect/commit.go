package connect

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Commit makes records and the connector's new position final in one
// transaction, or neither. What the broker refuses for good is a dead letter in
// the same transaction; a dead letter that it refuses is kept aside before. After
// an error ask Position before going on: the transaction may have been committed.
func (b *Box) Commit(ctx context.Context, position []byte, rs ...Record) error {
	all := make([]*kgo.Record, len(rs))
	dead := 0
	for i, r := range rs {
		switch all[i] = b.finish(r); {
		case r.dead != nil:
			dead++
		case tooLarge(all[i]) != nil:
			all[i] = b.refused(all[i], errTooLarge)
			dead++
		}
	}
	for {
		err := b.back.commit(ctx, position, all)
		var no refusedError
		switch {
		case err == nil:
			b.committed(all, len(rs)-dead, dead)
			return nil
		case !errors.As(err, &no):
			return fmt.Errorf("commit records with their position: %w", err)
		case all[no.i].Topic == b.records.DeadLetter:
			all = b.unburied(all, no)
		default:
			topic := all[no.i].Topic
			for i, r := range all {
				if i == no.i || ofTopic(no.err) && r.Topic == topic {
					all[i] = b.refused(r, no.err)
					dead++
				}
			}
		}
	}
}

func (b *Box) refused(r *kgo.Record, why error) *kgo.Record {
	return b.deadLetter(why.Error(), r.Value, string(r.Key))
}

// unburied is what is left of a commit of which the topic of dead letters has
// refused one: with less of the originals, or without any dead letter.
func (b *Box) unburied(all []*kgo.Record, no refusedError) []*kgo.Record {
	if less := b.less(all[no.i], no.err); less != nil {
		for i, r := range all {
			if r.Topic == b.records.DeadLetter {
				all[i] = cut(r, len(less.Value))
			}
		}
		return all
	}
	var letters []*kgo.Record
	all = slices.DeleteFunc(all, func(r *kgo.Record) bool {
		if r.Topic != b.records.DeadLetter {
			return false
		}
		letters = append(letters, r)
		return true
	})
	b.aside.keep(no.err, letters...)
	return all
}

func (b *Box) committed(all []*kgo.Record, records, dead int) {
	bytes := int64(0)
	for _, r := range all {
		bytes += int64(len(r.Value))
	}
	b.state.count(int64(records), bytes, int64(dead))
}
