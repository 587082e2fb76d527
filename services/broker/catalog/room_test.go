package catalog_test

import (
	"encoding/binary"
	"hash/crc32"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// batch is one record with a value of n bytes, as a producer sends it.
func batch(n int) []byte {
	body := make([]byte, 0, n+16)
	body = append(body, 0)                     // attributes
	body = append(body, 0, 0)                  // timestamp and offset deltas
	body = binary.AppendVarint(body, -1)       // no key
	body = binary.AppendVarint(body, int64(n)) // value
	body = append(body, make([]byte, n)...)
	body = append(body, 0) // no headers
	record := binary.AppendVarint(nil, int64(len(body)))
	record = append(record, body...)
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, FirstTimestamp: 1, MaxTimestamp: 1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1, Records: record,
	}
	b.Length = int32(len(b.AppendTo(nil)) - 12)
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[17:], crc32.Checksum(raw[21:], crc32.MakeTable(crc32.Castagnoli)))
	return raw
}

// put appends n records to a topic's first partition and waits for the disk.
func put(t *testing.T, c *catalog.Catalog, topic string, n int) {
	t.Helper()
	log := c.Get(topic).Partitions[0].Log
	for range n {
		b := batch(1000)
		h, err := store.Check(b)
		must(t, err)
		a, err := log.Append(b, h, true)
		must(t, err)
		must(t, log.Wait(t.Context(), a.Next))
	}
}

// TestTrimSurvivesPowerCut is what DeleteRecords promises: cut at any step the
// log begins where it did or at the new start, and there once it was said.
func TestTrimSurvivesPowerCut(t *testing.T) {
	for seed := range uint64(30) {
		fsys := vfs.NewCrashable(seed)
		c := open(t, fsys)
		_, err := c.Create("t", 1, map[string]string{"segment.bytes": "3000"})
		must(t, err)
		put(t, c, "t", 9)
		var mu sync.Mutex // of cuts: the hook is called from many goroutines
		var cuts []*vfs.Crashable
		fsys.SetHook(func(vfs.Op, string) error {
			mu.Lock()
			defer mu.Unlock()
			cuts = append(cuts, fsys.CrashClone())
			return nil
		})
		must(t, c.Get("t").Partitions[0].Log.Trim(7))
		fsys.SetHook(nil)
		cuts = append(cuts, fsys.CrashClone())
		for i, cut := range cuts {
			log := open(t, cut).Get("t").Partitions[0].Log
			start, end := log.Bounds()
			last := i == len(cuts)-1
			if end != 9 || (start != 7 && (start != 0 || last)) {
				t.Fatalf("seed %d cut %d of %d: log from %d to %d", seed, i, len(cuts), start, end)
			}
			s, err := log.Read(start, 1<<20, true)
			must(t, err)
			s.Release()
		}
	}
}

// TestDropOldest takes from the log that was appended to longest ago, and
// leaves active segments and topics that did not agree.
func TestDropOldest(t *testing.T) {
	c := open(t, vfs.NewCrashable(1))
	for topic, full := range map[string]string{"a": "drop-oldest", "b": "drop-oldest", "kept": "block"} {
		_, err := c.Create(topic, 1, map[string]string{"segment.bytes": "3000", "wayside.full": full})
		must(t, err)
	}
	put(t, c, "kept", 9)
	put(t, c, "a", 9)
	put(t, c, "b", 9)
	all := c.Bytes()
	start := func(topic string) int64 {
		s, _ := c.Get(topic).Partitions[0].Log.Bounds()
		return s
	}
	if n, segments := c.DropOldest(0); n != 0 || segments != 0 {
		t.Errorf("nothing was asked for, %d bytes went", n)
	}
	n, segments := c.DropOldest(1)
	if segments != 1 || n <= 0 || c.Bytes() != all-n {
		t.Errorf("%d segments with %d bytes went, %d of %d bytes are left", segments, n, c.Bytes(), all)
	}
	if start("kept") != 0 || start("a")+start("b") == 0 {
		t.Errorf("kept begins at %d, a at %d, b at %d", start("kept"), start("a"), start("b"))
	}
	c.DropOldest(1 << 40)
	if start("kept") != 0 || start("a") < 6 || start("a") > 8 || start("b") < 6 || start("b") > 8 {
		t.Errorf("kept begins at %d, a at %d, b at %d; want all but the active segments gone", start("kept"), start("a"), start("b"))
	}
	put(t, c, "a", 1)
}

// TestDropRead: a topic gives way up to where its group has read, and not a
// record further.
func TestDropRead(t *testing.T) {
	c, st := openWith(t, vfs.NewCrashable(1))
	for topic, config := range map[string]map[string]string{
		"t":     {"wayside.full": "drop-read", "wayside.full.group": "g"},
		"alone": {"wayside.full": "drop-read"},
	} {
		config["segment.bytes"] = "3000"
		_, err := c.Create(topic, 1, config)
		must(t, err)
		put(t, c, topic, 9)
	}
	start := func(topic string) int64 {
		s, _ := c.Get(topic).Partitions[0].Log.Bounds()
		return s
	}
	c.DropOldest(1 << 40)
	if start("t") != 0 || start("alone") != 0 {
		t.Errorf("t begins at %d, alone at %d; want nothing gone that nobody has read", start("t"), start("alone"))
	}
	last := int64(0)
	for at := range int64(10) {
		must(t, st.Commit("g", []meta.Offset{{Topic: "t", Offset: at, LeaderEpoch: -1}}))
		c.DropOldest(1 << 40)
		if s := start("t"); s > at || s < last {
			t.Fatalf("with %d read, t begins at %d", at, s)
		} else {
			last = s
		}
	}
	if last < 6 || start("alone") != 0 {
		t.Errorf("t begins at %d, alone at %d", last, start("alone"))
	}
}
