package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"

	"github.com/waysideos/wayside/services/broker/frame"
	"github.com/waysideos/wayside/services/broker/meta"
	"github.com/waysideos/wayside/services/vfs"
)

// Each topic has a file beside its records that says what the broker's state
// says of it, for the day on which that cannot be read any more.
const (
	topicFile    = "topic" // in the folder of partition 0
	topicKind    = "WAYSTOPC"
	topicVersion = 1
)

// keptTopic is what the file holds.
type keptTopic struct {
	Cluster string `json:"cluster"`
	meta.Topic
}

func topicFileOf(name string) string { return path.Join(dirOf(name, 0), topicFile) }

func encodeTopic(t keptTopic) ([]byte, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encode topic %s: %v", t.Name, err)
	}
	return frame.Append(frame.Header(topicKind, topicVersion), body), nil
}

var errNoTopic = errors.New("no usable file of a topic")

// parseTopic reads the file of the topic of a name. A configuration that this
// release would not take is left out.
func parseTopic(name string, b []byte) (keptTopic, error) {
	var t keptTopic
	if _, err := frame.CheckHeader(b, topicKind, topicVersion); err != nil {
		return t, fmt.Errorf("%w: %v", errNoTopic, err)
	}
	body, _, err := frame.Next(b[frame.HeaderSize:])
	if err != nil || json.Unmarshal(body, &t) != nil {
		return keptTopic{}, errNoTopic
	}
	if t.Name != name || t.ID == (meta.ID{}) || t.Topic.Partitions < 1 || t.Topic.Partitions > MaxPartitions {
		return keptTopic{}, errNoTopic
	}
	for k, v := range t.Config {
		if CheckConfig(map[string]string{k: v}) != nil {
			delete(t.Config, k)
		}
	}
	return t, nil
}

func readTopic(fsys vfs.FS, name string) (keptTopic, error) {
	b, err := frame.ReadFile(fsys, topicFileOf(name))
	if err != nil {
		return keptTopic{}, err
	}
	return parseTopic(name, b)
}

// keep writes a topic's file, unless it says the same already. It is a second
// copy: without it the topic is served all the same.
func (c *Catalog) keep(t meta.Topic) {
	data, err := encodeTopic(keptTopic{c.meta.ClusterID(), t})
	if err == nil {
		if old, rerr := frame.ReadFile(c.fsys, topicFileOf(t.Name)); rerr == nil && bytes.Equal(old, data) {
			return
		}
		err = frame.WriteFile(c.fsys, topicFileOf(t.Name), data)
	}
	if err != nil {
		c.opts.Log.Warn("write the file that says what a topic is; the next start tries again", "topic", t.Name, "err", err)
	}
}

// keepAll sees to it that each topic has its file, as those do not that an
// earlier release made, or for which there was no room.
func (c *Catalog) keepAll(ctx context.Context) {
	for _, t := range c.All() {
		if ctx.Err() != nil {
			return
		}
		c.change.Lock()
		if now := c.Get(t.Name); now != nil {
			c.keep(now.Topic)
		}
		c.change.Unlock()
	}
}
