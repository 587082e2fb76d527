package replicator

import (
	"net"
	"reflect"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
)

func port(t *testing.T, addr string) int {
	t.Helper()
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestTopicNames(t *testing.T) {
	r := rules{topics: []string{"a", "b*", "__x", "*"}, to: "p.{topic}", hidden: "dead"}
	for topic, want := range map[string]bool{"a": true, "b": true, "bc": true, "ab": true, "__x": true, "__y": false, "dead": false, ownTopics + "a": false, "wayside-connect.x": false, "wayside-mqtt": false} {
		if got := r.match(topic); got != want {
			t.Errorf("match(%q) = %v, want %v", topic, got, want)
		}
	}
	if (rules{topics: []string{"a"}}).match("ab") {
		t.Error("a name matched a longer one")
	}
	if got := r.destination("a"); got != "p.a" {
		t.Errorf("destination = %q, want p.a", got)
	}
}

func TestPositionMetadata(t *testing.T) {
	id := kadm.TopicID{1, 2, 3}
	for _, exact := range []bool{false, true} {
		want := remembered{position: position{next: 3, epoch: 7, dest: 12, again: 4}, id: id, final: !exact}
		if got := parseMetadata(3, 7, metadata(want.position, id, exact)); !reflect.DeepEqual(got, want) {
			t.Errorf("%+v came back as %+v", want, got)
		}
	}
	for _, text := range []string{"", "12", "dest=1", "dest=-4 again=1", "dest=1 again=-1", "dest=x again=y", metadata(unknown, kadm.TopicID{}, false)} {
		want := remembered{position: position{next: 3, epoch: -1, dest: -1}, final: true}
		if got := parseMetadata(3, -1, text); !reflect.DeepEqual(got, want) {
			t.Errorf("parseMetadata(%q) = %+v, want %+v", text, got, want)
		}
	}
}
