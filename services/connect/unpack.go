package connect

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What the sinks of a service hold of what they have unpacked, as it lies in
// memory: the bytes, and what each record takes besides. A sink that is stuck
// with what it has leaves the others ownUnpacked, with which they go on, in
// smaller lots.
const (
	allUnpacked  = 48 << 20
	sinkUnpacked = 16 << 20 // of one, but for a single batch that is larger
	ownUnpacked  = 1 << 20
	headerCost   = 40 // of a header, besides its bytes
	leastCounted = 1 << 10
)

// againAfter is when a batch is tried again for which there was no room.
const againAfter = 200 * time.Millisecond

// errNoRoom is of a batch that is fetched again when others were let go of.
var errNoRoom = errors.New("other batches take all room for what is unpacked")

// room is what all sinks share. What is unpacked counts until the garbage
// collector has it back, since a sink may keep any of it; when there is no room
// the collector is asked.
type room struct {
	unpack kgo.Decompressor // the client's own, which knows consumeBatch

	one       sync.Mutex // held while a batch is unpacked: how large it is shows only then
	collected time.Time

	mu    sync.Mutex
	used  int64
	freed chan struct{} // closed when something was let go of
}

// newRoom takes the bounded decompressor out of a client: it is to be had in
// no other way.
func newRoom() (*room, error) {
	cl, err := kgo.NewClient(kgo.MaxDecompressBatchBytes(consumeBatch))
	if err != nil {
		return nil, fmt.Errorf("make a decompressor: %w", err)
	}
	defer cl.Close()
	unpack, _ := cl.OptValue(kgo.WithDecompressor).(kgo.Decompressor)
	return &room{unpack: unpack, freed: make(chan struct{})}, nil
}

// unpacker is the kgo.Decompressor of one sink.
type unpacker struct {
	*room
	held int64 // of used
}

// Decompress implements kgo.Decompressor. With errNoRoom the client returns
// the batches before this one and fetches it again.
func (u *unpacker) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	if codec == kgo.CodecNone {
		return src, nil
	}
	u.mu.Lock()
	freed := u.freed
	u.mu.Unlock()
	out, err := u.tryUnpack(src, codec)
	if errors.Is(err, errNoRoom) {
		select {
		case <-freed:
		case <-time.After(againAfter):
		}
	}
	return out, err
}

func (u *unpacker) tryUnpack(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	u.one.Lock()
	defer u.one.Unlock()
	out, err := u.unpack.Decompress(src, codec)
	if err != nil || len(out) < leastCounted {
		return out, err
	}
	n := unpackedCost(out) + int64(cap(out)-len(out))
	if n > allUnpacked {
		return nil, kgo.ErrMaxDecompress
	}
	if !u.take(n) {
		u.collect()
		return nil, errNoRoom
	}
	runtime.AddCleanup(&out[0], u.give, n)
	return out, nil
}

func (u *unpacker) take(n int64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	own := u.held+n <= ownUnpacked
	if !own && (u.used+n > allUnpacked || u.held > 0 && u.held+n > sinkUnpacked) {
		return false
	}
	u.used += n
	u.held += n
	return true
}

func (u *unpacker) give(n int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.used -= n
	u.held -= n
	close(u.freed)
	u.freed = make(chan struct{})
}

// collect has the garbage collector run, but not all the time; one is held.
func (r *room) collect() {
	if time.Since(r.collected) > againAfter/2 {
		runtime.GC()
		r.collected = time.Now()
	}
}

// unpackedCost is what the records of a batch take, which are in Kafka's
// format, version 2: a hostile one has millions, or headers, of no bytes.
func unpackedCost(batch []byte) int64 {
	cost := int64(len(batch))
	for len(batch) > 0 {
		n, k := binary.Varint(batch)
		if k <= 0 || n < 0 || n > int64(len(batch)-k) {
			break // the client finds it broken too
		}
		cost += recordCost + headerCost*headerCount(batch[k:k+int(n)])
		batch = batch[k+int(n):]
	}
	return cost
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
