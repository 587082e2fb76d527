package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/klauspost/reedsolomon"
)

// Packer makes datagrams of records. It is not for concurrent use.
type Packer struct {
	// Send takes one datagram, and keeps nothing of it.
	Send func(datagram []byte) error
	// Stream of this run: larger than that of every run before it.
	Stream uint64
	// Redundancy is how many datagrams are added to a hundred.
	Redundancy int
	// Key seals datagrams, nil has them carry a checksum only.
	Key []byte

	block uint64
	buf   []byte // of the block that is being filled
	first int    // as in the header
	codes map[[2]int]reedsolomon.Encoder
	out   []byte
}

// payload is how much data a datagram holds.
func (p *Packer) payload() int {
	if len(p.Key) > 0 {
		return MaxDatagram - headerSize - macSize
	}
	return MaxDatagram - headerSize - crcSize
}

// Full is how many bytes of records a whole block holds.
func (p *Packer) Full() int { return maxDataFor(p.Redundancy) * p.payload() }

// maxDataFor leaves room for the parity shards: 48 data shards are some 66 KB,
// which the receiver holds until the last of them is there.
func maxDataFor(redundancy int) int { return min(48, maxShards*100/(100+redundancy)) }

// Record adds a record; whole blocks are sent.
func (p *Packer) Record(r *Record) error { return p.add(r.appendFrame(nil, frameRecord)) }

// Position tells that all records before offset have been sent, so that the
// receiver misses the last ones too.
func (p *Packer) Position(topic string, partition int32, offset int64) error {
	r := Record{Topic: topic, Partition: partition, Offset: offset}
	return p.add(r.appendFrame(nil, framePosition))
}

func (p *Packer) add(frame []byte) error {
	if len(frame) > MaxRecord {
		return fmt.Errorf("a record of %d bytes is larger than the %d that are carried", len(frame), MaxRecord)
	}
	if len(p.buf) == 0 {
		p.first = noStart
	}
	if p.first == noStart {
		p.first = len(p.buf)
	}
	for full := p.Full(); len(frame) > 0; {
		n := min(len(frame), full-len(p.buf))
		p.buf = append(p.buf, frame[:n]...)
		frame = frame[n:]
		if len(p.buf) == full {
			if err := p.Flush(); err != nil {
				return err
			}
			p.first = noStart
		}
	}
	return nil
}

// Flush sends what is there as a smaller block.
func (p *Packer) Flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	k := (len(p.buf) + p.payload() - 1) / p.payload()
	m := (k*p.Redundancy + 99) / 100
	shards, err := p.shards(k, m)
	if err != nil {
		return err
	}
	h := header{stream: p.Stream, block: p.block, k: k, m: m, length: len(p.buf), first: p.first}
	p.block++
	p.buf = p.buf[:0]
	for i, s := range shards {
		h.index = i
		p.out = seal(append(h.append(p.out[:0]), s...), p.Key)
		if err := p.Send(p.out); err != nil {
			return err
		}
	}
	return nil
}

// shards splits the block and computes the parity.
func (p *Packer) shards(k, m int) ([][]byte, error) {
	size := shardSize(len(p.buf), k)
	data := make([]byte, size*(k+m))
	copy(data, p.buf)
	shards := make([][]byte, k+m)
	for i := range shards {
		shards[i] = data[i*size : (i+1)*size]
	}
	if m == 0 {
		return shards, nil
	}
	code, err := codeOf(&p.codes, k, m)
	if err != nil {
		return nil, err
	}
	return shards, code.Encode(shards)
}

// codeOf makes the code for k and m shards once.
func codeOf(codes *map[[2]int]reedsolomon.Encoder, k, m int) (reedsolomon.Encoder, error) {
	if c := (*codes)[[2]int{k, m}]; c != nil {
		return c, nil
	}
	if *codes == nil || len(*codes) > 256 { // a hostile sender may claim every pair there is
		*codes = map[[2]int]reedsolomon.Encoder{}
	}
	// The library's cache has a matrix for each set of shards that was ever lost.
	c, err := reedsolomon.New(k, m, reedsolomon.WithMaxGoroutines(1), reedsolomon.WithInversionCache(false))
	if err != nil {
		return nil, fmt.Errorf("make a code of %d and %d shards: %v", k, m, err)
	}
	(*codes)[[2]int{k, m}] = c
	return c, nil
}

// frameAt is the frame that b begins with: its body, and how many bytes it
// takes in all; 0 when b does not hold all of it, less when it cannot be one.
func frameAt(b []byte) (body []byte, n int) {
	size, used := binary.Uvarint(b)
	switch {
	case used < 0 || (used > 0 && (size == 0 || size > MaxRecord)):
		return nil, -1
	case used == 0 || uint64(len(b)-used) < size:
		return nil, 0
	}
	return b[used : used+int(size)], used + int(size)
}
