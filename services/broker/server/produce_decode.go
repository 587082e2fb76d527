package server

import (
	"fmt"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

// produceRequest is a Produce request whose records alias the request's
// buffer. It is decoded here and not by kmsg because it is the one request
// that is large: an array's claimed length must not decide what is allocated.
type produceRequest struct {
	txn    *string // transactional id
	acks   int16
	topics []produceTopic
}

type produceTopic struct {
	name  string
	id    meta.ID
	parts []producePart
}

type producePart struct {
	num     int32
	records []byte
	at      int // position in the request's body

	// What becomes of it.
	log    *store.Log
	head   store.Header
	unpack bool  // appending it means to decompress it
	next   int64 // durable when the log's high watermark is here
	err    error
}

// maxParts is how many partitions one request may hold.
const maxParts = 20000

// decodeProduce decodes versions 0 to 13.
func decodeProduce(version int16, body []byte) (*produceRequest, error) {
	r := &reader{src: body}
	compact := version >= 9
	req := &produceRequest{}
	if version >= 3 {
		if id := r.bytes(compact, false); id != nil {
			txn := string(id)
			req.txn = &txn
		}
	}
	req.acks = r.int16()
	r.int32() // timeout: nothing is waited for but our own disk
	left := maxParts
	for n := r.length(compact, true); n > 0 && !r.bad; n-- {
		t := produceTopic{}
		if version >= topicIDVersion {
			copy(t.id[:], r.take(len(t.id)))
		} else if name := r.bytes(compact, false); name != nil {
			t.name = string(name)
		} else {
			return nil, errShort // not nullable
		}
		for m := r.length(compact, true); m > 0 && !r.bad; m-- {
			if left--; left < 0 {
				return nil, fmt.Errorf("more than %d partitions in one request", maxParts)
			}
			p := producePart{num: r.int32(), records: r.bytes(compact, true)}
			p.at = len(body) - len(r.src) - len(p.records)
			t.parts = append(t.parts, p)
			r.tagsIf(compact)
		}
		if left--; left < 0 {
			return nil, fmt.Errorf("more than %d topics in one request", maxParts)
		}
		req.topics = append(req.topics, t)
		r.tagsIf(compact)
	}
	r.tagsIf(compact)
	if r.bad {
		return nil, errShort
	}
	return req, nil
}

func (r *reader) tagsIf(compact bool) {
	if compact {
		r.tags()
	}
}
