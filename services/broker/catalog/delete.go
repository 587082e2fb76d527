package catalog

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/broker/store"
)

// Delete removes a topic: first from the state, which is what clients see,
// then its files.
func (c *Catalog) Delete(name string) error { return c.DeleteAll([]string{name})[0] }

// DeleteAll removes topics, each for itself.
func (c *Catalog) DeleteAll(names []string) []error {
	c.change.Lock()
	defer c.change.Unlock()
	out := make([]error, len(names))
	seen := map[string]bool{}
	var g errgroup.Group
	g.SetLimit(changeAtOnce)
	for i, name := range names {
		t := c.Get(name)
		if t == nil || seen[name] {
			out[i] = fmt.Errorf("%w: %s", ErrUnknown, name)
			continue
		}
		seen[name] = true
		g.Go(func() error {
			out[i] = c.deleteTopic(t)
			return nil
		})
	}
	g.Wait()
	return out
}

func (c *Catalog) deleteTopic(t *Topic) error {
	if err := c.meta.DeleteTopic(t.ID); err != nil {
		return fmt.Errorf("delete topic %s: %w", t.Name, err)
	}
	c.drop(t)
	closeAll(t.Partitions)
	if err := c.removeFiles(t.Topic); err != nil {
		c.opts.Log.Warn("delete the files of a topic; tried again at the next start", "topic", t.Name, "err", err)
	}
	return nil
}

func (c *Catalog) removeFiles(t meta.Topic) error {
	for i := range t.Partitions {
		if err := store.Remove(c.fsys, dirOf(t.Name, i)); err != nil {
			return err
		}
	}
	return c.meta.ForgetTopic(t.ID)
}

// errRecords says that a partition's folder is not empty.
var errRecords = errors.New("it holds records")

// removeEmpty removes a partition that never had a record.
func (c *Catalog) removeEmpty(dir string) error {
	entries, err := c.fsys.ReadDir(dir)
	if err != nil {
		return nil // it was not even made
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return err
		}
		first := strings.HasPrefix(e.Name(), "00000000000000000000.") || !strings.Contains(e.Name(), ".log")
		if !first || (strings.HasSuffix(e.Name(), ".log") && info.Size() > 0) {
			return errRecords
		}
	}
	return store.Remove(c.fsys, dir)
}

// Strays are the folders with records of no known topic, found at the start:
// what was to name them is lost, and no topic of their name can be made.
func (c *Catalog) Strays() []string { return c.strays }

// sweep removes folders that an interrupted creation left; those of no known
// topic that hold records stay.
func (c *Catalog) sweep() error {
	entries, err := c.fsys.ReadDir(root)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, t := range slices.Concat(c.meta.Topics(), c.meta.Deleting()) {
		for i := range t.Partitions {
			known[dirOf(t.Name, i)] = true
		}
	}
	for _, e := range entries {
		dir := root + "/" + e.Name()
		if known[dir] || !e.IsDir() {
			continue
		}
		if err := c.removeEmpty(dir); err != nil {
			c.opts.Log.Warn("a folder belongs to no topic; move it away", "dir", dir, "err", err)
			c.strays = append(c.strays, dir)
		}
	}
	return nil
}
