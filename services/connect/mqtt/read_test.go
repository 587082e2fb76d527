package mqtt

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/site"
)

// write gives one compressed batch to a broker.
func write(t *testing.T, addrs []string, topic string, rs ...*kgo.Record) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addrs...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func keyed(key string, value []byte) *kgo.Record {
	return &kgo.Record{Key: []byte(key), Value: value}
}

// A batch of some kilobytes that would be 40 MB when it is unpacked is passed
// over, by who listens, by who was away, and among the state; it is counted,
// and what is behind it comes.
func TestBombsArePassedOver(t *testing.T) {
	bomb := make([]byte, 40<<20)
	kafka := cluster(t, kfake.SeedTopics(1, "commands", "others"))
	bridge := func(c *Config) {
		c.Publish = []site.Publication{{Topic: "commands", To: "plant/{key}/set", QoS: 1}, {Topic: "others", To: "other/{key}", QoS: 1}}
	}
	c, addr, stop := start(t, kafka.ListenAddrs(), bridge)
	sub, _ := resume(t, addr, "s", false)
	sub.subscribe("#", 1)
	eventually(t, "the session listens", func() bool {
		s := c.session("s")
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.out.live
	})
	next := func(topic, payload string) {
		t.Helper()
		g := sub.publication1()
		sub.ack(pubackType, g.id)
		if g.topic != topic || g.payload != payload {
			t.Errorf("got %d bytes at %s, want %s at %s", len(g.payload), g.topic, payload, topic)
		}
	}
	write(t, kafka.ListenAddrs(), "commands", keyed("7", bomb))
	write(t, kafka.ListenAddrs(), "others", keyed("1", []byte("beside")))
	next("other/1", "beside")
	write(t, kafka.ListenAddrs(), "commands", keyed("7", []byte("behind")))
	next("plant/7/set", "behind")
	if n := counter(t, c, "wayside_mqtt_dropped_total"); n != 1 {
		t.Errorf("%v messages are counted as dropped, want 1", n)
	}
	eventually(t, "what came is acknowledged", func() bool {
		s := c.session("s")
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.out.sent) == 0
	})
	sub.conn.Close()
	stop()

	write(t, kafka.ListenAddrs(), "commands", keyed("7", bomb))
	write(t, kafka.ListenAddrs(), "commands", keyed("7", []byte("while away")))
	write(t, kafka.ListenAddrs(), StateTopic, keyed("s/bomb", bomb))
	c, addr, _ = start(t, kafka.ListenAddrs(), bridge)
	sub, present := resume(t, addr, "s", false)
	if !present {
		t.Fatal("the session is gone")
	}
	next("plant/7/set", "while away")
	if n := counter(t, c, "wayside_mqtt_dropped_total"); n != 1 {
		t.Errorf("%v messages are counted as dropped of those that came while the client was away, want 1", n)
	}
	write(t, kafka.ListenAddrs(), "commands", keyed("7", []byte("live again")))
	next("plant/7/set", "live again")
}

// What a connection finds too large after it has ended does not take its session
// on: behind what has to be sent again.
func TestPassedOverTooLate(t *testing.T) {
	c, _, _ := start(t, cluster(t).ListenAddrs())
	p := part{"commands", 0}
	s, d := newSession(c, "s"), &connection{}
	s.out.next[p] = 5 // where detach has set it back to
	if s.passOver(d, unreadable{p, 10, 12}) || s.out.next[p] != 5 {
		t.Errorf("the session goes on at %d, want 5", s.out.next[p])
	}
	s.conn = d
	if !s.passOver(d, unreadable{p, 10, 12}) || s.out.next[p] != 12 {
		t.Errorf("the session goes on at %d, want 12", s.out.next[p])
	}
	if s.passOver(d, unreadable{p, 10, 12}) {
		t.Error("it is passed over twice")
	}
}

// A small message that is retained, or waits for a subscriber that does not
// read, does not hold the large batch that it came in, which would take all
// room of those that come later.
func TestMessagesDoNotHoldTheirBatches(t *testing.T) {
	const n = 6 // of 6 MB each
	for _, retain := range []bool{false, true} {
		t.Run("retain="+strconv.FormatBool(retain), func(t *testing.T) {
			kafka := cluster(t, kfake.SeedTopics(1, "commands"))
			c, addr, _ := start(t, kafka.ListenAddrs(), func(c *Config) {
				c.Publish = []site.Publication{{Topic: "commands", To: "plant/{key}/set", QoS: 1, Retain: retain}}
			})
			stuck, _ := resume(t, addr, "s", false)
			stuck.subscribe("plant/#", 1)
			var window []*kgo.Record
			for range maxInflight {
				window = append(window, keyed("w", []byte("x")))
			}
			write(t, kafka.ListenAddrs(), "commands", window...)
			filler := make([]byte, 6<<20)
			for i := range n {
				write(t, kafka.ListenAddrs(), "commands", keyed(strconv.Itoa(i), []byte("x")), keyed("no/+/wildcard", filler))
			}
			eventually(t, "all were offered", func() bool { return c.feed.positions()[part{"commands", 0}] == maxInflight+2*n })
			for i := range n {
				m := c.retained.get("plant/" + strconv.Itoa(i) + "/set")
				if (m != nil) != retain || retain && string(m.payload) != "x" {
					t.Errorf("message %d is retained as %v", i, m)
				}
			}
		})
	}
}
