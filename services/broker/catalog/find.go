package catalog

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
	"github.com/waysideos/wayside/services/vfs"
)

// unknownConfig is that of a topic of which only the records are left: they are
// kept until somebody says for how long.
var unknownConfig = map[string]string{"retention.ms": "-1", "retention.bytes": "-1"}

// Find looks through the folders of partitions for topics that the state does
// not know, or knows as they were before: with fewer partitions, or another
// configuration. What a topic was is in its file.
// Without one it is a new topic of the old records, with the configuration
// that is declared for it, if there is one. Folders with neither file nor
// records are passed over; partitions that are missing are made, empty. Where
// nothing is known to be lost and no folder has records, the topics are those
// that were being made when the broker ended: the state is the truth then.
func Find(fsys vfs.FS, st *meta.Store, declared map[string]map[string]string) (f meta.Found, err error) {
	folders, err := foldersOf(fsys)
	if err != nil {
		return f, fmt.Errorf("look for topics: %w", err)
	}
	if _, lost := st.Loss(); !lost && !anyRecords(folders) {
		return f, nil
	}
	ids := map[meta.ID]bool{}
	for _, t := range st.Deleting() {
		delete(folders, t.Name)
		ids[t.ID] = true
	}
	known := map[string]meta.Topic{}
	for _, t := range st.Topics() {
		known[t.Name], ids[t.ID] = t, true
	}
	for _, name := range slices.Sorted(maps.Keys(folders)) {
		dir := folders[name]
		f.Epoch = max(f.Epoch, dir.epoch)
		kept, err := readTopic(fsys, name)
		if err == nil && kept.Cluster != "" {
			f.Cluster = kept.Cluster
		}
		t, ok := known[name]
		if ok && t.ID != kept.ID {
			kept.Topic = meta.Topic{}
		}
		want := max(t.Partitions, kept.Topic.Partitions, dir.last+1)
		altered := ok && kept.Name != "" && !maps.Equal(t.Config, kept.Config)
		if want == 0 || want == t.Partitions && !altered {
			continue
		}
		switch {
		case altered: // the state may be of any earlier time
			t.Config = kept.Config
		case !ok:
			t = found(name, kept.Topic, declared[name], ids)
		}
		t.Partitions = want
		if err := makeMissing(fsys, t); err != nil {
			return f, err
		}
		f.Topics = append(f.Topics, t)
	}
	return f, nil
}

// found is a topic that the state does not know; kept is zero without its file.
func found(name string, kept meta.Topic, declared map[string]string, ids map[meta.ID]bool) meta.Topic {
	if kept.Name == "" {
		kept = meta.Topic{Name: name, Config: unknownConfig}
		if declared != nil {
			kept.Config = declared
		}
	}
	if kept.ID == (meta.ID{}) || ids[kept.ID] { // a folder was copied
		kept.ID = meta.NewID()
	}
	ids[kept.ID] = true
	return kept
}

// makeMissing makes the partitions of a topic that have no folder.
func makeMissing(fsys vfs.FS, t meta.Topic) error {
	for part := range t.Partitions {
		dir := dirOf(t.Name, part)
		if _, err := fsys.ReadDir(dir); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := store.Create(fsys, dir); err != nil {
			return fmt.Errorf("make %s again: %w", dir, err)
		}
	}
	return nil
}

// folder is what lies on the disk of one topic.
type folder struct {
	last  int32 // the last partition with records; -1 there is none
	epoch int32 // the newest leader epoch that is noted
}

func anyRecords(folders map[string]folder) bool {
	for _, d := range folders {
		if d.last >= 0 {
			return true
		}
	}
	return false
}

func foldersOf(fsys vfs.FS) (map[string]folder, error) {
	entries, err := fsys.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]folder{}
	for _, e := range entries {
		name, part, ok := parseDir(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		dir := dirOf(name, part)
		d, seen := out[name]
		if !seen {
			d.last = -1
		}
		if store.HasRecords(fsys, dir) {
			d.last = max(d.last, part)
		}
		d.epoch = max(d.epoch, store.NotedEpoch(fsys, dir))
		out[name] = d
	}
	return out, nil
}

// parseDir is the reverse of dirOf.
func parseDir(s string) (topic string, part int32, ok bool) {
	i := strings.LastIndexByte(s, '-')
	if i < 0 || CheckName(s[:i]) != nil {
		return "", 0, false
	}
	n, err := strconv.ParseInt(s[i+1:], 10, 32)
	if err != nil || n < 0 || n >= MaxPartitions || strconv.FormatInt(n, 10) != s[i+1:] {
		return "", 0, false
	}
	return s[:i], int32(n), true
}
