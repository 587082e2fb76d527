package mqtt

import (
	"bufio"
	"fmt"
	"strings"
	"testing"
	"time"
)

// ask subscribes to many filters at once, and returns how many were granted.
func (d *device) ask(filters []string) (granted int) {
	d.t.Helper()
	body := []byte{0, 9}
	for _, f := range filters {
		body = append(append(body, text(f)...), 1)
	}
	d.send(0x82, body)
	typ, b := d.read()
	if typ != 0x90 || len(b) != 2+len(filters) {
		d.t.Fatalf("got packet %#x of %d bytes, want SUBACK of %d", typ, len(b), 2+len(filters))
	}
	for _, code := range b[2:] {
		if code <= 2 {
			granted++
		}
	}
	return granted
}

// The subscriptions of one client are bounded, and those of one that comes
// under many names; what has ended makes room, a restart keeps to the bound,
// and what a client has is granted again.
func TestSubscriptionsOfManyNames(t *testing.T) {
	var deep []string
	for i := range maxSubscriptions {
		deep = append(deep, fmt.Sprint(i)+strings.Repeat("/x", maxLevels-1))
	}
	most := int(maxIndex / filterCost(deep[0]))
	kafka := cluster(t)
	_, addr, stop := start(t, kafka.ListenAddrs())
	first, _ := resume(t, addr, "c0", false)
	granted := first.ask(deep)
	if granted != maxSubscriptions {
		t.Errorf("the first client was granted %d, want all %d", granted, maxSubscriptions)
	}
	for i := 1; i < 5; i++ {
		d, _ := resume(t, addr, fmt.Sprint("c", i), false)
		granted += d.ask(deep)
	}
	if granted > most+len(deep) || granted < most/2 { // what was counted is not what each takes, exactly
		t.Errorf("five clients were granted %d, want about %d", granted, most)
	}
	if first.ask(deep[:1]) != 1 {
		t.Error("what a client has is not granted again")
	}
	stop()
	_, addr, _ = start(t, kafka.ListenAddrs())
	late := connect(t, addr, "late", false)
	if n := late.ask(deep); granted+n > most+len(deep) {
		t.Errorf("%d more were granted after a restart", n)
	}
	connect(t, addr, "c0", false) // clean: its session ends
	eventually(t, "there is room again", func() bool { return late.ask(deep) > len(deep)/2 })
}

// So are wills: who leaves one that is too much is turned away.
func TestWillsOfManyNames(t *testing.T) {
	kafka := cluster(t)
	_, addr, _ := start(t, kafka.ListenAddrs())
	const size = 60_000
	mortal := func(i int) *device {
		t.Helper()
		d := &device{t: t, conn: dial(t, addr)}
		d.r = bufio.NewReader(d.conn)
		body := append(append(text("MQTT"), 4, 0x06, 0, 60), text(fmt.Sprint("m", i))...) // with a will, clean
		body = append(append(body, text("alarm/1")...), text(strings.Repeat("x", size))...)
		d.send(connectType, body)
		if typ, _ := d.read(); typ != connackType {
			t.Fatalf("got packet %#x, want CONNACK", typ)
		}
		return d
	}
	stays := func(d *device) bool {
		_, _ = d.conn.Write(frame(pingreqType, nil)) // it may be closed
		typ, _, err := d.next(15 * time.Second)
		return err == nil && typ == pingrespType
	}
	var all []*device
	for i := range maxWills / size {
		d := mortal(i)
		if all = append(all, d); !stays(d) {
			if i < maxWills/size-5 {
				t.Errorf("will %d was too much", i)
			}
			break
		}
	}
	mortal(1000).wantClosed()
	if !stays(connect(t, addr, "small", false)) {
		t.Error("a client without a will is turned away")
	}
	for _, d := range all {
		d.send(disconnectType, nil)
	}
	for _, d := range all {
		d.wantClosed()
	}
	eventually(t, "there is room again", func() bool { return stays(mortal(1001)) })
}
