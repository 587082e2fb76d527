package wire

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/reedsolomon"
)

// same is not cmp.Diff, which takes a minute for these values.
func same(t *testing.T, want, got []Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(want[i], got[i]) {
			t.Fatalf("record %d is not what was sent", i)
		}
	}
}

// link packs records and hands the receiver what pass lets through.
type link struct {
	t    *testing.T
	p    *Packer
	u    *Unpacker
	now  time.Time
	sent int
	got  []Record
	told map[string]int64
	pass func(n int, datagram []byte) [][]byte
}

func newLink(t *testing.T, redundancy int, key []byte) *link {
	l := &link{t: t, now: time.Unix(1_800_000_000, 0), told: map[string]int64{}}
	l.p = &Packer{Stream: 1, Redundancy: redundancy, Key: key, Send: l.send}
	l.u = &Unpacker{Key: key, Patience: time.Second,
		Record:   func(r Record) { l.got = append(l.got, r) },
		Position: func(topic string, p int32, offset int64) { l.told[fmt.Sprint(topic, p)] = offset },
	}
	return l
}

func (l *link) send(d []byte) error {
	out := [][]byte{bytes.Clone(d)}
	if l.pass != nil {
		out = l.pass(l.sent, out[0])
	}
	l.sent++
	for _, d := range out {
		if err := l.u.Datagram(d, l.now); err != nil {
			l.t.Errorf("datagram: %v", err)
		}
	}
	return nil
}

// records are n of random sizes, up to most bytes.
func records(rng *rand.Rand, n, most int) []Record {
	all := make([]Record, n)
	for i := range all {
		value := make([]byte, rng.IntN(most+1))
		for k := range value {
			value[k] = byte(rng.Uint32())
		}
		all[i] = Record{Topic: "sensors", Partition: int32(i % 3), Offset: int64(i), Prev: int64(max(i-3, 0)), Time: int64(1000 + i), Value: value}
		switch i % 4 {
		case 1:
			all[i].Key = []byte{}
		case 2:
			all[i].Key, all[i].Headers = []byte("key"), []Header{{"h", nil}, {"", []byte("v")}}
		case 3:
			all[i].Value = nil
		}
	}
	return all
}

func (l *link) carry(all []Record) {
	l.t.Helper()
	for i := range all {
		if err := l.p.Record(&all[i]); err != nil {
			l.t.Fatal(err)
		}
		if i%7 == 6 {
			if err := l.p.Flush(); err != nil {
				l.t.Fatal(err)
			}
		}
	}
	if err := l.p.Flush(); err != nil {
		l.t.Fatal(err)
	}
}

func TestNothingLostArrivesWhole(t *testing.T) {
	for _, key := range [][]byte{nil, []byte("secret")} {
		l := newLink(t, 20, key)
		all := records(rand.New(rand.NewPCG(1, 1)), 200, 100_000) // many larger than a block
		l.carry(all)
		same(t, all, l.got)
		if l.u.Stats.Repaired != 0 || l.u.Stats.LostBlocks != 0 {
			t.Errorf("stats %+v", l.u.Stats)
		}
	}
}

// As many datagrams of each block as it has parity may go missing, in any
// order and twice over.
func TestLossWithinTheRedundancyIsRepaired(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	l := newLink(t, 20, nil)
	var held [][]byte
	lost := map[uint64]int{}
	l.pass = func(_ int, d []byte) [][]byte {
		h, _, err := open(d, nil)
		if err != nil {
			t.Fatal(err)
		}
		if lost[h.block] < h.m && rng.IntN(3) == 0 {
			lost[h.block]++
			return nil
		}
		held = append(held, d)
		if len(held) < 10 {
			return nil
		}
		rng.Shuffle(len(held), func(i, k int) { held[i], held[k] = held[k], held[i] })
		out := append(held[:5:5], held[0])
		held = held[5:]
		return out
	}
	all := records(rng, 300, 20_000)
	l.carry(all)
	for _, d := range held {
		l.u.Datagram(d, l.now)
	}
	same(t, all, l.got)
	if l.u.Stats.Repaired == 0 {
		t.Error("nothing was repaired: the test lost nothing that mattered")
	}
}

// A loss beyond the redundancy costs the records that it touches, and no
// other; what arrives stays in order and unaltered.
func TestLossBeyondTheRedundancyCostsOnlyWhatItHit(t *testing.T) {
	for seed := range uint64(50) {
		rng := rand.New(rand.NewPCG(3, seed))
		l := newLink(t, 10, nil)
		l.pass = func(n int, d []byte) [][]byte {
			if rng.IntN(6) == 0 {
				return nil
			}
			return [][]byte{d}
		}
		all := records(rng, 200, 5000)
		l.carry(all)
		l.now = l.now.Add(time.Minute)
		l.u.Advance(l.now)
		next := 0
		for _, r := range l.got {
			for next < len(all) && !reflect.DeepEqual(all[next], r) {
				next++
			}
			if next == len(all) {
				t.Fatalf("seed %d: record at offset %d was altered or out of order", seed, r.Offset)
			}
			next++
		}
		if len(l.got) == 0 || len(l.got) == len(all) || l.u.Stats.LostBlocks == 0 {
			t.Errorf("seed %d: %d of %d records, %+v", seed, len(l.got), len(all), l.u.Stats)
		}
	}
}

func TestPatience(t *testing.T) {
	l := newLink(t, 0, nil)
	l.pass = func(n int, d []byte) [][]byte {
		if n == 1 {
			return nil
		}
		return [][]byte{d}
	}
	for i := range 4 {
		l.carry([]Record{{Topic: "t", Offset: int64(i)}})
	}
	if len(l.got) != 1 {
		t.Fatalf("%d records before patience is over, want 1", len(l.got))
	}
	l.u.Advance(l.now.Add(999 * time.Millisecond))
	if len(l.got) != 1 {
		t.Fatalf("gave up too early")
	}
	l.u.Advance(l.now.Add(time.Second))
	if len(l.got) != 3 || l.got[1].Offset != 2 || l.u.Stats.LostBlocks != 1 {
		t.Errorf("got %v, %+v", l.got, l.u.Stats)
	}
}

func TestAnotherRunOfTheSender(t *testing.T) {
	l := newLink(t, 0, nil)
	one := []Record{{Topic: "t", Offset: 1}}
	l.carry(one)
	first := l.p
	run := func(stream uint64) {
		l.p = &Packer{Stream: stream, Send: l.send}
		l.carry(one)
	}
	run(5)
	l.p = first
	l.carry(one) // an old run's late datagram
	if len(l.got) != 2 || l.u.Stats.Streams != 2 || l.u.Stats.Late != 1 {
		t.Fatalf("%d records, %+v", len(l.got), l.u.Stats)
	}
	l.now = l.now.Add(silence + time.Second)
	run(3) // its clock was set back
	if len(l.got) != 3 || l.u.Stats.Streams != 3 {
		t.Errorf("%d records, %+v", len(l.got), l.u.Stats)
	}
	if err := l.p.Position("t", 0, 2); err != nil {
		t.Fatal(err)
	}
	if err := l.p.Flush(); err != nil {
		t.Fatal(err)
	}
	if l.told["t0"] != 2 {
		t.Errorf("told %v", l.told)
	}
}

func TestDatagramsOfOthers(t *testing.T) {
	var good []byte
	key := []byte("secret")
	p := &Packer{Stream: 1, Key: key, Send: func(d []byte) error { good = bytes.Clone(d); return nil }}
	p.Record(&Record{Topic: "t"})
	p.Flush()
	u := &Unpacker{Key: key, Record: func(Record) { t.Error("a record of others was taken") }}
	for i := range good {
		for _, flip := range []byte{1, 0x80, 0xff} {
			bad := bytes.Clone(good)
			bad[i] ^= flip
			if u.Datagram(bad, time.Now()) == nil {
				t.Errorf("byte %d altered by %#x: taken", i, flip)
			}
		}
		if u.Datagram(good[:i], time.Now()) == nil {
			t.Errorf("cut to %d bytes: taken", i)
		}
	}
	other := &Unpacker{Record: func(Record) { t.Error("a record of others was taken") }}
	if other.Datagram(good, time.Now()) == nil {
		t.Error("taken without the key")
	}
}

// FuzzUnpacker gives a receiver without key whatever may come, some of it
// with a right checksum; it must not fail, nor hold more than it may.
func FuzzUnpacker(f *testing.F) {
	var datagrams []byte
	p := &Packer{Stream: 1, Redundancy: 50, Send: func(d []byte) error {
		datagrams = append(append(datagrams, byte(len(d)>>8), byte(len(d))), d...)
		return nil
	}}
	all := records(rand.New(rand.NewPCG(4, 4)), 8, 300)
	for i := range all {
		p.Record(&all[i])
		p.Flush()
	}
	f.Add(datagrams, false)
	f.Add(datagrams, true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		now := time.Unix(1, 0)
		u := &Unpacker{Patience: time.Second, Record: func(Record) {}, Position: func(string, int32, int64) {}}
		for len(b) >= 2 {
			n := min(int(b[0])<<8|int(b[1]), len(b)-2)
			d := b[2 : 2+n]
			b = b[2+n:]
			if fix && len(d) > crcSize {
				d = seal(bytes.Clone(d[:len(d)-crcSize]), nil)
			}
			u.Datagram(d, now)
			now = now.Add(100 * time.Millisecond)
			if len(u.pending) > maxPending+1 || u.held > maxPendingBytes+1<<16 || len(u.partial) > MaxRecord+1<<20 {
				t.Fatalf("holds %d blocks, %d bytes, %d of a record", len(u.pending), u.held, len(u.partial))
			}
		}
		u.finish()
		if u.held != 0 {
			t.Fatalf("%d bytes are still held", u.held)
		}
	})
}

// Shards are lost in ever other ways: to repair them leaves nothing behind.
func TestRepairsKeepNothing(t *testing.T) {
	const k, m, lost, repairs = 48, 24, 8, 5000
	var codes map[[2]int]reedsolomon.Encoder
	code, err := codeOf(&codes, k, m)
	if err != nil {
		t.Fatal(err)
	}
	whole := make([][]byte, k+m)
	for i := range whole {
		whole[i] = bytes.Repeat([]byte{byte(i)}, 10)
	}
	if err := code.Encode(whole); err != nil {
		t.Fatal(err)
	}
	heap := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	rng, before := rand.New(rand.NewPCG(3, 3)), heap()
	for range repairs {
		shards := slices.Clone(whole)
		for _, i := range rng.Perm(k)[:lost] {
			shards[i] = nil
		}
		if err := code.ReconstructData(shards); err != nil {
			t.Fatal(err)
		}
	}
	if held := heap() - before; held > 2<<20 {
		t.Errorf("%d repairs left %d kB", repairs, held>>10)
	}
	runtime.KeepAlive(code)
}
