package server

import "fmt"

// produceRequest is a Produce request whose records alias the request's
// buffer. It is decoded here and not by kmsg because it is the one request
// that is large: an array's claimed length must not decide what is allocated.
type produceRequest struct {
	transactional bool
	acks          int16
	topics        []produceTopic
}

type produceTopic struct {
	name  string
	parts []producePart
}

type producePart struct {
	num     int32
	records []byte
}

// maxParts is how many partitions one request may hold.
const maxParts = 20000

// decodeProduce decodes versions 0 to 12.
func decodeProduce(version int16, body []byte) (*produceRequest, error) {
	r := &reader{src: body}
	compact := version >= 9
	req := &produceRequest{}
	if version >= 3 {
		req.transactional = r.bytes(compact, false) != nil
	}
	req.acks = r.int16()
	r.int32() // timeout: nothing is waited for but our own disk
	left := maxParts
	for n := r.length(compact, true); n > 0 && !r.bad; n-- {
		name := r.bytes(compact, false)
		if name == nil {
			return nil, errShort // not nullable
		}
		t := produceTopic{name: string(name)}
		for m := r.length(compact, true); m > 0 && !r.bad; m-- {
			if left--; left < 0 {
				return nil, fmt.Errorf("more than %d partitions in one request", maxParts)
			}
			t.parts = append(t.parts, producePart{num: r.int32(), records: r.bytes(compact, true)})
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
