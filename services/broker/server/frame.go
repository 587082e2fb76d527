package server

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A request: size int32, then header (api key int16, version int16,
// correlation id int32, client id nullable string, tags when flexible), then
// body. https://kafka.apache.org/protocol#protocol_messages
const (
	sizeBytes = 4
	minHeader = 10 // without the client id's bytes
)

var (
	errShort   = errors.New("request is cut short")
	errKey     = errors.New("unknown api key")
	errVersion = errors.New("unsupported version")
)

// parseHeader splits a request into header and body. For an ApiVersions
// request of a version that is not known the body is left alone: the reply
// says which versions are.
func (s *Server) parseHeader(b []byte, h *holding) (*request, error) {
	if len(b) < minHeader {
		return nil, fmt.Errorf("header: %w", errShort)
	}
	be := binary.BigEndian
	r := &request{key: int16(be.Uint16(b)), version: int16(be.Uint16(b[2:])), correlation: int32(be.Uint32(b[4:]))}
	a, ok := s.byKey[r.key]
	if !ok {
		return nil, fmt.Errorf("%w %d", errKey, r.key)
	}
	if r.version < a.min || r.version > a.max {
		if r.key == kmsg.ApiVersions.Int16() {
			return r, nil
		}
		return nil, fmt.Errorf("%w %d of %s, %d to %d are served", errVersion, r.version, a.key.Name(), a.min, a.max)
	}
	n := int(int16(be.Uint16(b[8:])))
	b = b[minHeader:]
	if n > len(b) {
		return nil, fmt.Errorf("client id: %w", errShort)
	}
	if n > 0 {
		r.client, b = string(b[:n]), b[n:]
	}
	msg := kmsg.RequestForKey(r.key)
	msg.SetVersion(r.version)
	if r.flexible = msg.IsFlexible(); r.flexible {
		rd := reader{src: b}
		rd.tags()
		if rd.bad {
			return nil, fmt.Errorf("header tags: %w", errShort)
		}
		b = rd.src
	}
	r.body = b
	return r, s.decode(r, msg, h)
}

func (s *Server) decode(r *request, msg kmsg.Request, h *holding) error {
	if r.key == kmsg.Produce.Int16() {
		return nil
	}
	n, err := s.layouts.claims(msg, r.body, s.memory.decoded.size)
	if err == nil {
		err = h.decoding(n)
	}
	if err != nil {
		return fmt.Errorf("decode %s version %d: %w", kmsg.NameForKey(r.key), r.version, err)
	}
	if err := msg.ReadFrom(r.body); err != nil {
		return fmt.Errorf("decode %s version %d: %w", kmsg.NameForKey(r.key), r.version, errShort)
	}
	r.msg = msg
	return nil
}

// appendResponse appends a whole response frame.
func appendResponse(dst []byte, r *request, msg kmsg.Response) []byte {
	at := len(dst)
	dst = appendHeader(dst, r)
	dst = msg.AppendTo(dst)
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-sizeBytes))
	return dst
}

// appendHeader appends a response's header with a size of 0. ApiVersions
// keeps header version 0 for ever, because a client reads it before it knows
// what the broker speaks (KIP-511).
func appendHeader(dst []byte, r *request) []byte {
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.correlation))
	if r.flexible && r.key != kmsg.ApiVersions.Int16() {
		dst = append(dst, 0) // no tags
	}
	return dst
}
