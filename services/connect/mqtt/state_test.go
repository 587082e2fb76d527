package mqtt

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestStateKeys(t *testing.T) {
	for _, client := range []string{"", "c", "a/b", "i/7/x", "7/"} {
		got, id, ok := parseReceived(receivedKey(client, 65535))
		if !ok || got != client || id != 65535 {
			t.Errorf("client %q comes back as %q, %d, %v", client, got, id, ok)
		}
	}
	for _, bad := range []string{"i/", "i/0/c", "i/65536/c", "i/-1/c", "i/x/c", "i/7"} {
		if _, _, ok := parseReceived(bad); ok {
			t.Errorf("%q is taken", bad)
		}
	}
	if p, ok := parsePart(part{"a.b-c", 7}.key()); !ok || p != (part{"a.b-c", 7}) {
		t.Errorf("a partition comes back as %v, %v", p, ok)
	}
}

// What is written is read again, and what is forgotten is gone.
func TestStateComesBack(t *testing.T) {
	o := outbox{sent: map[uint16]*outgoing{
		1: {id: 1, qos: 1, at: place{part{"t", 0}, 5}},
		2: {id: 2, qos: 2, at: place{part{"t", 1}, 9}, released: true},
		3: {id: 3, qos: 2, retained: "a/b"},
	}, next: map[part]int64{{"t", 0}: 8, {"t", 1}: 12}, once: map[part]int64{{"t", 1}: 10}}
	l := newLoaded()
	l.apply(stateRecord(keyPosition+"c", o.stored(nil)))
	back := outbox{sent: map[uint16]*outgoing{}}
	back.restore(l.positions["c"])
	want := map[part]int64{{"t", 0}: 5, {"t", 1}: 12} // what is not acknowledged comes first
	if diff := cmp.Diff(want, back.next, cmp.AllowUnexported(part{})); diff != "" {
		t.Errorf("positions (-want +got):\n%s", diff)
	}
	if len(back.sent) != 3 || *back.sent[2] != *o.sent[2] || *back.sent[3] != *o.sent[3] || back.once[part{"t", 1}] != 10 {
		t.Errorf("sent = %v, once = %v, want those that were stored", back.sent, back.once)
	}
	l.apply(stateRecord(keyPosition+"c", nil))
	l.apply(stateRecord(receivedKey("c", 7), stateVersion))
	l.apply(stateRecord(receivedKey("c", 8), stateVersion))
	l.apply(stateRecord(receivedKey("c", 7), nil))
	m := &message{topic: "a/b", payload: []byte("x"), qos: 1, retain: true, origin: "c"}
	l.apply(retainedRecord(m))
	if len(l.positions) != 0 || len(l.received["c"]) != 1 || !l.received["c"][8] || string(l.retained["a/b"].payload) != "x" || l.bad != 0 {
		t.Errorf("loaded = %+v", l)
	}
	l.apply(retainedRecord(&message{topic: "a/b"}))
	l.apply(&kgo.Record{Key: []byte("s/c"), Value: []byte(`{"version":2}`)})
	if len(l.retained) != 0 || len(l.sessions) != 0 || l.bad != 1 {
		t.Errorf("loaded = %+v, want an ended retained message, and one record passed over", l)
	}
}

// A record is a message again as it was; whoever else writes to the topics of
// the routes can do no harm.
func FuzzFromRecord(f *testing.F) {
	m := &message{topic: "a/b", payload: []byte("x"), qos: 2, retain: true, origin: "c", user: "u", expires: 7}
	m.props.ContentType, m.props.PayloadFormatFlag = "text/plain", true
	r := m.record("t", time.Unix(1, 0))
	f.Add(string(r.Key), r.Value, r.Headers[1].Key, r.Headers[1].Value)
	f.Add("a/+", []byte{}, headerQoS, []byte("9"))
	f.Add("$SYS", []byte{}, headerExpiry, []byte("-1"))
	f.Fuzz(func(t *testing.T, key string, value []byte, name string, header []byte) {
		got := fromRecord(&kgo.Record{Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{
			{Key: headerClient, Value: []byte("c")}, {Key: name, Value: header},
		}})
		if got == nil {
			return
		}
		if got.qos > 2 {
			t.Errorf("QoS %d", got.qos)
		}
		pk := got.packet(got.qos, 1, got.retain, false, nil)
		_ = pk
		again := fromRecord(got.record("t", time.Unix(1, 0)))
		if again == nil || again.topic != got.topic || again.qos != got.qos || string(again.payload) != string(got.payload) {
			t.Errorf("%+v comes back as %+v", got, again)
		}
	})
}

func FuzzState(f *testing.F) {
	f.Add("s/c", []byte(`{"version":1,"expiry":5,"subscriptions":[{"filter":"a/#","qos":1}],"will":{"topic":"a","qos":9}}`))
	f.Add("p/c", []byte(`{"version":1,"next":{"t/0":5,"x":-1},"sent":[{"id":7,"qos":2,"topic":"t","offset":3}]}`))
	f.Add("i/7/c", []byte("1"))
	f.Add("r/a/b", []byte("x"))
	f.Add("f/t", []byte(`{"t/0":-5}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		l := newLoaded()
		l.apply(&kgo.Record{Key: []byte(key), Value: value})
		for _, p := range l.positions {
			o := outbox{sent: map[uint16]*outgoing{}}
			o.restore(p)
			for p, n := range o.next {
				if n < 0 || p.topic == "" {
					t.Errorf("position %v of %v", n, p)
				}
			}
		}
		for _, s := range l.sessions {
			if s.Will != nil {
				s.Will.message("c", "")
			}
		}
	})
}
