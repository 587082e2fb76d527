package syslog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
)

var sender = &net.UDPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 514}

func TestMessages(t *testing.T) {
	now := time.Date(2026, 11, 28, 15, 0, 0, 0, time.UTC)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	year := time.Now().Year() // the library takes the clock's, not ours
	tests := map[string]message{
		`<165>1 2026-10-11T22:14:15.003Z sw1.example.com evntslog 812 ID47 [exampleSDID@32473 iut="3" eventID="1011"] ` + "\ufeff link is up\n": {
			Facility: "local4", Severity: "notice", Time: "2026-10-11T22:14:15.003Z", Hostname: "sw1.example.com", App: "evntslog", Process: "812", ID: "ID47",
			StructuredData: map[string]map[string]string{"exampleSDID@32473": {"iut": "3", "eventID": "1011"}}, Message: "link is up",
		},
		`<34>Oct 11 22:14:15 mymachine su[77]: 'su root' failed`: {
			Facility: "auth", Severity: "crit", Time: fmt.Sprintf("%d-10-11T20:14:15.000Z", year), Hostname: "mymachine", App: "su", Process: "77", Message: "'su root' failed",
		},
		`<189>%LINK-3-UPDOWN: Interface Fa0/1, changed state to up`: {
			Facility: "local7", Severity: "notice", Time: "2026-11-28T15:00:00.000Z", Message: "%LINK-3-UPDOWN: Interface Fa0/1, changed state to up", Unparsed: true,
		},
		"<13>caf\xe9": {
			Facility: "user", Severity: "notice", Time: "2026-11-28T15:00:00.000Z", Message: "caf\uFFFD", Unparsed: true,
		},
	}
	p := newParser(berlin, false)
	for text, want := range tests {
		want.BoxTime, want.Source = "2026-11-28T15:00:00.000Z", "192.0.2.9"
		r, ok := p.record([]byte(text), sender, now)
		if !ok {
			t.Errorf("%s: is no record", text)
			continue
		}
		var got message
		if err := json.Unmarshal(r.Value, &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	for _, bad := range []string{"", "hello", "<192>a", "<", "<>a", "<1a>b", "<0013>x"} {
		if r, ok := p.record([]byte(bad), sender, now); ok {
			t.Errorf("%q: got %s, want none", bad, r.Value)
		}
	}
	raw := newParser(time.UTC, true)
	if r, ok := raw.record([]byte("<34>Oct 11 22:14:15 m su: a"), sender, now); !ok || string(r.Value) != "<34>Oct 11 22:14:15 m su: a" || r.Values["hostname"] != "m" {
		t.Errorf("raw: %q, %v, %v", r.Value, r.Values, ok)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`<165>1 2026-10-11T22:14:15.003Z h a 1 - [x@1 y="z"] m`))
	f.Add([]byte(`<34>Oct 11 22:14:15 mymachine su[77]: failed`))
	f.Add([]byte(`<13>anything`))
	p := newParser(time.UTC, false)
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, ok := p.record(b, sender, time.Now()); ok && !json.Valid(r.Value) {
			t.Errorf("%q became %s", b, r.Value)
		}
	})
}

func TestFrames(t *testing.T) {
	tests := map[string][]string{
		"5 <1>ab4 <2>c":          {"<1>ab", "<2>c", "EOF"},
		"<1>a\n<2>b\r\n<3>c\x00": {"<1>a", "<2>b", "<3>c", "EOF"},
		"<1>a\n\n 4 <2>b<3>c\n":  {"<1>a", "<2>b", "<3>c", "EOF"},
		"7 <1>a\nbc<2>d\n":       {"<1>a\nbc", "<2>d", "EOF"},
		"":                       {"EOF"},
		"9 <1>":                  {"cut"},
		"12":                     {"cut"},
		"<1>a":                   {"cut"},
		"1x<1>":                  {"broken"},
		"99999999999 <1>a":       {"broken"},
		"<1>" + strings.Repeat("a", 40) + "\n<2>b\n":  {"long", "<2>b", "EOF"},
		"30 <1>" + strings.Repeat("a", 27) + "4 <2>b": {"long", "<2>b", "EOF"},
	}
	for in, want := range tests {
		f := newFrames(strings.NewReader(in), 20)
		var got []string
		for len(got) < 10 {
			b, err := f.next()
			var long tooLong
			switch {
			case errors.As(err, &long):
				got = append(got, "long")
				continue
			case err == io.EOF:
				got = append(got, "EOF")
			case errors.Is(err, io.ErrUnexpectedEOF):
				got = append(got, "cut")
			case err != nil:
				got = append(got, "broken")
			default:
				got = append(got, string(b))
				continue
			}
			break
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", in, diff)
		}
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("5 <1>ab<2>c\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		fr := newFrames(bytes.NewReader(in), 20)
		for range len(in) + 1 {
			b, err := fr.next()
			if len(b) > 20 {
				t.Fatalf("a message of %d bytes", len(b))
			}
			if err != nil && !errors.As(err, new(tooLong)) {
				return
			}
		}
		t.Errorf("%q has more messages than bytes", in)
	})
}

// run serves a receiver of these fields.
func run(t testing.TB, b *connecttest.Broker, text string) {
	t.Helper()
	p, err := site.Parse("test", []byte("version: 1\nsite: a\nconnect:\n  syslog:\n    - {name: logs, "+text+"}\n"))
	if err != nil {
		t.Fatal(err)
	}
	m := p.Connect.Syslog[0]
	c, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	r := connecttest.Start(t, b.Addr, nil, t.TempDir(), connect.Instance{Connector: c, Name: m.Name, Protocol: "syslog", Records: m.Records})
	connecttest.Until(t, "the receiver listens", func() bool { return r.State("logs").State == connect.Running })
}

func TestUDP(t *testing.T) {
	b, at := connecttest.NewBroker(t), connecttest.FreeAddress(t)
	run(t, b, "listen: "+at)
	conn, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, text := range []string{"<34>Oct 11 22:14:15 m su: first", "no priority", "<34>Oct 11 22:14:15 m su: second\n"} {
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	for i, r := range b.Read("logs", 2) {
		if want := []string{`"message":"first"`, `"message":"second"`}[i]; !strings.Contains(string(r.Value), want) || string(r.Key) != "m" {
			t.Errorf("record %d is %s: %s, want %s", i, r.Key, r.Value, want)
		}
	}
	if dead := b.Read("dead-letters.logs", 1)[0]; string(dead.Value) != "no priority" {
		t.Errorf("the dead letter is %s", dead.Value)
	}
}

// TestTCP: messages of many senders arrive while the broker comes and goes.
func TestTCP(t *testing.T) {
	b, at := connecttest.NewBroker(t), connecttest.FreeAddress(t)
	run(t, b, "transport: tcp, listen: "+at)
	const senders, each = 4, 50
	errs := make(chan error, senders)
	for i := range senders {
		go func() {
			conn, err := net.Dial("tcp", at)
			if err == nil {
				defer conn.Close()
				for n := range each {
					text := fmt.Sprintf("<34>Oct 11 22:14:15 h%d su: %d", i, n)
					_, err = fmt.Fprintf(conn, "%d %s", len(text), text)
				}
			}
			errs <- err
		}()
		if i == 1 {
			b.Stop()
		}
	}
	for range senders {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	b.Start()
	last := map[string]int{}
	for _, r := range b.Read("logs", senders*each) {
		var m message
		if err := json.Unmarshal(r.Value, &m); err != nil {
			t.Fatal(err)
		}
		if m.Message != fmt.Sprint(last[m.Hostname]) {
			t.Fatalf("of %s came %s, want %d", m.Hostname, m.Message, last[m.Hostname])
		}
		last[m.Hostname]++
	}
}
