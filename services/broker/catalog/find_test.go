package catalog_test

import (
	"bytes"
	"maps"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/broker/catalog"
	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/vfs"
)

// ruin overwrites every file in a folder.
func ruin(t *testing.T, fsys vfs.FS, dir string) {
	t.Helper()
	entries, err := fsys.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		must(t, frame.WriteFile(fsys, dir+"/"+e.Name(), bytes.Repeat([]byte("garbage"), 50)))
	}
}

func find(t *testing.T, fsys vfs.FS, declared map[string]map[string]string) (meta.Found, *meta.Store) {
	t.Helper()
	st, err := meta.Open(fsys, "meta")
	must(t, err)
	f, err := catalog.Find(fsys, st, declared)
	must(t, err)
	return f, st
}

// TestFind: topics come back as they were by their files, and with their records
// and nothing that could delete them without.
func TestFind(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	c, st := openWith(t, fsys)
	_, err := c.Create("a-1", 2, nil)
	must(t, err)
	must(t, c.Alter("a-1", map[string]string{"cleanup.policy": "compact"}))
	must(t, c.Grow("a-1", 3))
	for _, name := range []string{"gone", "old", "site", "empty"} {
		_, err := c.Create(name, 1, nil)
		must(t, err)
	}
	must(t, c.Delete("gone"))
	for _, name := range []string{"old", "site"} {
		b := record(100)
		_, err := c.Get(name).Partitions[0].Log.Append(b, header(t, b), true)
		must(t, err)
	}
	was, cluster := c.Get("a-1").Topic, st.ClusterID()
	must(t, c.Close())
	must(t, st.Close())
	for _, name := range []string{"old", "site", "empty"} { // as an earlier release left them
		must(t, fsys.Remove("topics/"+name+"-0/topic"))
	}
	ruin(t, fsys, "meta")

	declared := map[string]map[string]string{"site": {"retention.ms": "5"}}
	f, st := find(t, fsys, declared)
	if f.Cluster != cluster {
		t.Errorf("cluster %q, want %q", f.Cluster, cluster)
	}
	want := []meta.Topic{was,
		{Name: "old", Partitions: 1, Config: map[string]string{"retention.ms": "-1", "retention.bytes": "-1"}},
		{Name: "site", Partitions: 1, Config: declared["site"]}}
	got := f.Topics
	for i := 1; i < len(got); i++ {
		if got[i].ID == (meta.ID{}) {
			t.Errorf("topic %s has no id", got[i].Name)
		}
		got[i].ID = meta.ID{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("topics (-want +got):\n%s", diff)
	}
	must(t, st.Close())
}

// TestFindGrown: a state that knows what a topic was before learns what it is,
// and a folder that is not there is made.
func TestFindGrown(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	c, st := openWith(t, fsys)
	_, err := c.Create("t", 3, nil)
	must(t, err)
	_, err = c.Create("altered", 1, map[string]string{"retention.ms": "50"})
	must(t, err)
	b := record(100)
	_, err = c.Get("t").Partitions[2].Log.Append(b, header(t, b), true)
	must(t, err)
	id := c.Get("t").ID
	must(t, c.Close())
	less := c.Get("t").Topic
	less.Partitions = 1
	must(t, st.PutTopic(less))
	old := c.Get("altered").Topic
	old.Config = map[string]string{"retention.ms": "5"} // it would delete what is kept for longer now
	must(t, st.PutTopic(old))
	must(t, st.Close())
	must(t, fsys.Remove("topics/t-1/00000000000000000000.log"))
	entries, err := fsys.ReadDir("topics/t-1")
	must(t, err)
	for _, e := range entries {
		must(t, fsys.Remove("topics/t-1/"+e.Name()))
	}
	must(t, fsys.Remove("topics/t-1"))
	f, st := find(t, fsys, nil)
	if len(f.Topics) != 2 || f.Topics[1].ID != id || f.Topics[1].Partitions != 3 || f.Topics[0].Config["retention.ms"] != "50" {
		t.Fatalf("found %+v, want t with 3 partitions and altered with a retention of 50 ms", f.Topics)
	}
	must(t, st.Rebuild(f))
	must(t, st.Close())
	c = open(t, fsys)
	for i, p := range c.Get("t").Partitions {
		if p.Err != nil {
			t.Errorf("partition %d: %v", i, p.Err)
		}
	}
	must(t, c.Close())
}

// TestFindInterrupted: topics that were being made when the broker was killed
// are no loss, of a state that knows no other yet; records of none are.
func TestFindInterrupted(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	c, st := openWith(t, fsys)
	fsys.SetHook(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.HasPrefix(name, "meta/") {
			return syscall.EIO // the folders are there, and the state never knows
		}
		return nil
	})
	if _, err := c.Create("t", 2, nil); err == nil {
		t.Fatal("made without the state")
	}
	c.Close()
	st.Close()
	fsys.SetHook(nil)
	_, err := frame.ReadFile(fsys, "topics/t-0/topic")
	must(t, err)
	f, st := find(t, fsys, nil)
	if len(f.Topics) > 0 {
		t.Errorf("found %+v of a broker that has lost nothing", f.Topics)
	}
	must(t, st.Rebuild(f))
	if l, lost := st.Loss(); lost {
		t.Errorf("told of a loss: %+v", l)
	}
	must(t, st.Close())

	must(t, frame.WriteFile(fsys, "topics/t-1/00000000000000000000.log", record(100)))
	if f, _ = find(t, fsys, nil); len(f.Topics) != 1 {
		t.Errorf("found %+v, want the topic of the records", f.Topics)
	}
}

// TestTopicFile: it says what the state says, whatever happened to the topic,
// and is made for topics of earlier releases.
func TestTopicFile(t *testing.T) {
	fsys := vfs.NewCrashable(1)
	c, st := openWith(t, fsys)
	_, err := c.Create("t", 1, nil)
	must(t, err)
	must(t, c.Close())
	must(t, st.Close())
	must(t, fsys.Remove("topics/t-0/topic"))
	c = open(t, fsys)
	_, err = frame.ReadFile(fsys, "topics/t-0/topic")
	for end := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(end); _, err = frame.ReadFile(fsys, "topics/t-0/topic") {
		time.Sleep(time.Millisecond) // it is written when all logs are recovered
	}
	must(t, err)
	must(t, c.Close())
}

func FuzzTopicFile(f *testing.F) {
	good, err := catalog.EncodeTopic("c", meta.Topic{Name: "t", ID: meta.ID{1}, Partitions: 1, Config: map[string]string{"retention.ms": "5", "bad": "x"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:20])
	f.Fuzz(func(t *testing.T, b []byte) {
		topic, err := catalog.ParseTopic("t", b)
		if err != nil {
			return
		}
		if topic.Name != "t" || topic.Partitions < 1 || topic.Partitions > catalog.MaxPartitions || catalog.CheckConfig(maps.Clone(topic.Config)) != nil {
			t.Errorf("taken as good: %+v", topic)
		}
	})
}
