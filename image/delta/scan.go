package delta

import (
	"context"
	"fmt"
	"io"
)

// scanner finds hashes of grains at any place of a source. Each hash has the
// number that add returned for it.
type scanner struct {
	grain  int
	filter []uint64 // one bit for a few bits of hash: most places are passed over by it
	number map[uint32]int32
}

const filterBits = 22

func newScanner(grain int) *scanner {
	return &scanner{grain: grain, filter: make([]uint64, 1<<(filterBits-6)), number: map[uint32]int32{}}
}

// add returns the number of a hash, the same for the same hash, from 0 on.
func (s *scanner) add(hash uint32) int {
	n, ok := s.number[hash]
	if !ok {
		n = int32(len(s.number))
		s.number[hash] = n
		bit := hash >> (32 - filterBits)
		s.filter[bit/64] |= 1 << (bit % 64)
	}
	return int(n)
}

// scan calls found for every place of src, in order, at which the hash of the
// next grain is one of those added.
func (s *scanner) scan(ctx context.Context, src Source, found func(number int, off int64) error) error {
	if src.Size < int64(s.grain) || len(s.number) == 0 {
		return nil
	}
	const chunk = 1 << 20
	buf := make([]byte, chunk+s.grain)
	r := newRoller(s.grain)
	for base := int64(0); base+int64(s.grain) <= src.Size; base += chunk {
		if err := ctx.Err(); err != nil {
			return err
		}
		data := buf[:min(int64(len(buf)), src.Size-base)]
		if err := readAt(src.Content, data, base); err != nil {
			return fmt.Errorf("read what is held of %s: %w", src.Name, err)
		}
		r.reset(data)
		for i := 0; ; i++ {
			hash := r.hash()
			if bit := hash >> (32 - filterBits); s.filter[bit/64]>>(bit%64)&1 != 0 {
				if n, ok := s.number[hash]; ok {
					if err := found(int(n), base+int64(i)); err != nil {
						return err
					}
				}
			}
			if i+s.grain >= len(data) || i+1 == chunk {
				break
			}
			r.next(data[i], data[i+s.grain])
		}
	}
	return nil
}

// readAt fills buf; an end before that is an error.
func readAt(r io.ReaderAt, buf []byte, off int64) error {
	n, err := r.ReadAt(buf, off)
	if n == len(buf) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
