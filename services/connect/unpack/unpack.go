// Package unpack bounds what readers of Kafka hold of compressed batches that
// they have unpacked: a batch of some kilobytes may be a gigabyte.
package unpack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Limits are bytes of what is unpacked, as it lies in memory: the bytes, and
// what each record takes besides.
type Limits struct {
	Batch int64 // of one batch, the bytes alone
	All   int64 // of all readers; a batch that would be more is as too large as one beyond Batch
	Each  int64 // of one reader, but for a single batch that is larger; what it adds to its first leaves Batch of All free
	// Own is what a reader may have however much others hold: with it those go on, in
	// smaller lots, that share a room with others that are stuck.
	Own int64
}

const (
	recordCost   = 300     // of a record, besides its bytes
	headerCost   = 40      // of a header, besides its bytes
	leastCounted = 1 << 10 // as it lies in memory
)

// againAfter is when a batch is tried again for which there was no room.
const againAfter = 200 * time.Millisecond

// ErrNoRoom is of a batch that is fetched again when others were let go of: a
// reader finds it among the errors of a fetch, and has nothing to do.
var ErrNoRoom = errors.New("other batches take all room for what is unpacked")

// Room is what readers share. What is unpacked counts until the garbage
// collector has it back, since a reader may keep any of it; when there is no room
// the collector is asked.
type Room struct {
	limits Limits
	unpack kgo.Decompressor // the client's own, which knows limits.Batch

	one       sync.Mutex // held while a batch is unpacked: how large it is shows only then
	collected time.Time

	mu    sync.Mutex
	used  int64
	freed chan struct{} // closed when something was let go of
}

// NewRoom takes the bounded decompressor out of a client: it is to be had in
// no other way.
func NewRoom(l Limits) (*Room, error) {
	cl, err := kgo.NewClient(kgo.MaxDecompressBatchBytes(int(l.Batch)))
	if err != nil {
		return nil, fmt.Errorf("make a decompressor: %w", err)
	}
	defer cl.Close()
	unpack, _ := cl.OptValue(kgo.WithDecompressor).(kgo.Decompressor)
	return &Room{limits: l, unpack: unpack, freed: make(chan struct{})}, nil
}

// Reader is what a client, or several that share its part of the room, unpacks
// with (kgo.WithDecompressor).
func (r *Room) Reader() kgo.Decompressor { return &reader{Room: r} }

// PassOver has a client go on behind the batch of an error of its fetch, if the error
// is that the batch is too large; otherwise it returns nil. The client stops
// reading a partition at such a batch.
func PassOver(cl *kgo.Client, err error) *kgo.ErrDecompressTooLarge {
	var large *kgo.ErrDecompressTooLarge
	if !errors.As(err, &large) {
		return nil
	}
	cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{large.Topic: {large.Partition: {Epoch: large.Epoch, Offset: large.NextOffset}}})
	return large
}

// reader is the kgo.Decompressor of one part of the room.
type reader struct {
	*Room
	held int64 // of used
}

// Decompress implements kgo.Decompressor. With ErrNoRoom the client returns
// the batches before this one and fetches it again.
func (u *reader) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec == kgo.CodecNone {
		return src, nil
	}
	u.mu.Lock()
	freed := u.freed
	u.mu.Unlock()
	out, err := u.tryUnpack(src, codec)
	if errors.Is(err, ErrNoRoom) {
		select {
		case <-freed:
		case <-time.After(againAfter):
		}
	}
	return out, err
}

func (u *reader) tryUnpack(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	u.one.Lock()
	defer u.one.Unlock()
	out, err := u.unpack.Decompress(src, codec)
	if err != nil || len(out) == 0 {
		return out, err
	}
	n := cost(out) + int64(cap(out)-len(out))
	if n < leastCounted {
		return out, nil
	}
	if n > u.limits.All {
		return nil, kgo.ErrMaxDecompress
	}
	if !u.take(n) {
		u.collect()
		return nil, ErrNoRoom
	}
	runtime.AddCleanup(&out[0], u.give, n)
	return out, nil
}

func (u *reader) take(n int64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	l := &u.limits
	most := l.All
	if u.held > 0 { // those who hold nothing yet, because others are stuck, find room for a batch
		most = min(l.All-l.Batch, u.used-u.held+l.Each)
	}
	if u.used+n > most && u.held+n > l.Own {
		return false
	}
	u.used += n
	u.held += n
	return true
}

func (u *reader) give(n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.used -= n
	u.held -= n
	close(u.freed)
	u.freed = make(chan struct{})
}

// collect has the garbage collector run, but not all the time; one is held.
func (r *Room) collect() {
	if time.Since(r.collected) > againAfter/2 {
		runtime.GC()
		r.collected = time.Now()
	}
}

// cost is what the records of a batch take, which are in Kafka's format,
// version 2: a hostile one has millions, or headers, of no bytes.
func cost(batch []byte) int64 {
	all := int64(len(batch))
	for len(batch) > 0 {
		n, k := binary.Varint(batch)
		if k <= 0 || n < 0 || n > int64(len(batch)-k) {
			break // the client finds it broken too
		}
		all += recordCost + headerCost*headerCount(batch[k:k+int(n)])
		batch = batch[k+int(n):]
	}
	return all
}

// headerCount is of one record, behind its length.
func headerCount(r []byte) int64 {
	if len(r) == 0 {
		return 0
	}
	r = r[1:] // attributes
	for _, bytes := range []bool{false, false, true, true} {
		n, k := binary.Varint(r) // times and offset; key and value
		if k <= 0 || bytes && n > int64(len(r)-k) {
			return 0
		}
		if r = r[k:]; bytes && n > 0 {
			r = r[n:]
		}
	}
	n, k := binary.Varint(r)
	return max(0, min(n, int64(len(r)-k)))
}
