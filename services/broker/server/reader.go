package server

import "encoding/binary"

// reader takes the primitive types of the protocol from a request. It never
// allocates by a length that the client claims: what is not there makes it
// bad, and everything after that is zero.
type reader struct {
	src []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || n > len(r.src) {
		r.bad = true
		return nil
	}
	b := r.src[:n:n]
	r.src = r.src[n:]
	return b
}

func (r *reader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) uvarint() int {
	v, n := binary.Uvarint(r.src)
	if r.bad || n <= 0 || n > 5 || v > 1<<31-1 {
		r.bad = true
		return 0
	}
	r.src = r.src[n:]
	return int(v)
}

// length reads the length of a string (int16) or of bytes or an array
// (int32), or their compact form; -1 stands for null.
func (r *reader) length(compact bool, wide bool) int {
	switch {
	case compact:
		return r.uvarint() - 1
	case wide:
		return int(r.int32())
	}
	return int(r.int16())
}

// bytes aliases the request; nil for null.
func (r *reader) bytes(compact, wide bool) []byte {
	n := r.length(compact, wide)
	if n < 0 {
		return nil
	}
	return r.take(n)
}

// tags skips tagged fields.
func (r *reader) tags() {
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.uvarint()
		r.take(r.uvarint())
	}
}
