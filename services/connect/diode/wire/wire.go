// Package wire is what goes over a link that has no way back: records in
// numbered blocks, each spread over datagrams of which some may get lost. The
// format is docs/formats/diode.md.
package wire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// Limits of the format. A block's shards are at most maxShards (the code
// works in a field of 256).
const (
	version    = 1
	headerSize = 32
	crcSize    = 4
	macSize    = 16 // HMAC-SHA-256 cut to 128 bits (RFC 2104, section 5)
	maxShards  = 255
	maxData    = 200 // of them data

	// MaxDatagram is the largest UDP payload that fits one Ethernet frame
	// together with IPv6.
	MaxDatagram = 1500 - 48
	// MaxRecord is the largest record that is carried, in bytes as framed.
	MaxRecord = 16 << 20

	noStart = 0xffffffff // no record starts in this block
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// header is in front of every datagram.
type header struct {
	stream uint64 // of one run of the sender; a later run has a larger one
	block  uint64 // from 0
	k, m   int    // data and parity shards of the block
	index  int    // of this shard: below k data, from k on parity
	length int    // bytes of data in the block
	first  int    // where in the block the first record starts, or noStart
}

func (h header) append(b []byte) []byte {
	b = append(b, 'W', 'D', version, 0)
	b = binary.BigEndian.AppendUint64(b, h.stream)
	b = binary.BigEndian.AppendUint64(b, h.block)
	b = append(b, byte(h.k), byte(h.m), byte(h.index), 0)
	b = binary.BigEndian.AppendUint32(b, uint32(h.length))
	return binary.BigEndian.AppendUint32(b, uint32(h.first))
}

// seal ends a datagram with what proves it: a MAC if there is a key, else a
// CRC-32C, which only finds accidents.
func seal(b, key []byte) []byte {
	if len(key) == 0 {
		return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	}
	return append(b, mac(b, key)...)
}

func mac(b, key []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(b)
	return h.Sum(nil)[:macSize]
}

var (
	errForeign = errors.New("not a datagram of this format")
	errSeal    = errors.New("the checksum is wrong")
	errKey     = errors.New("not sealed with this key")
)

// open checks a datagram and returns its parts; shard is a part of b.
func open(b, key []byte) (h header, shard []byte, err error) {
	tail := crcSize
	if len(key) > 0 {
		tail = macSize
	}
	if len(b) < headerSize+tail || b[0] != 'W' || b[1] != 'D' {
		return h, nil, errForeign
	}
	if b[2] != version {
		return h, nil, fmt.Errorf("version %d, want %d: update the older side", b[2], version)
	}
	body, sum := b[:len(b)-tail], b[len(b)-tail:]
	switch {
	case len(key) > 0 && !hmac.Equal(mac(body, key), sum):
		return h, nil, errKey
	case len(key) == 0 && crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(sum):
		return h, nil, errSeal
	}
	h = header{
		stream: binary.BigEndian.Uint64(b[4:]), block: binary.BigEndian.Uint64(b[12:]),
		k: int(b[20]), m: int(b[21]), index: int(b[22]),
		length: int(binary.BigEndian.Uint32(b[24:])), first: int(binary.BigEndian.Uint32(b[28:])),
	}
	shard = body[headerSize:]
	if h.block > math.MaxInt64 || h.k == 0 || h.k > maxData || h.k+h.m > maxShards || h.index >= h.k+h.m ||
		h.length == 0 || len(shard) != shardSize(h.length, h.k) || (h.first != noStart && h.first >= h.length) {
		return h, nil, errForeign
	}
	return h, shard, nil
}

// shardSize is the size of each of a block's shards, the last one padded.
func shardSize(length, k int) int { return (length + k - 1) / k }
