package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/waysideos/wayside/test/harness"
)

// TestSchemaRegistryPattern does by hand what schema registries do with a
// broker; none of them can be had from PyPI or Maven Central. They keep
// schemas in one compacted partition, read it whole at start, write with
// acks=all and read their own writes back, and choose a leader by a group of
// the protocol type "sr".
func TestSchemaRegistryPattern(t *testing.T) {
	need(t)
	b := startBroker(t)
	cl := harness.Client(t, b.addr, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.AllISRAcks()))
	defer cl.Close()
	compact := "compact"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": &compact}, "_schemas"); err != nil {
		t.Fatal(err)
	}
	if got := topicConfig(t, b.addr, "_schemas", "cleanup.policy"); got != "compact" {
		t.Fatalf("got cleanup.policy=%s, want compact: a registry would refuse to start", got)
	}
	if err := put(cl, "", "v").FirstErr(); err != kerr.InvalidRecord {
		t.Errorf("a record without a key: got %v, want %v", err, kerr.InvalidRecord)
	}
	want := map[string]string{}
	for id := range 30 {
		key := fmt.Sprintf(`{"keytype":"SCHEMA","subject":"s%d","version":1,"magic":1}`, id%10)
		value := fmt.Sprintf(`{"id":%d,"schema":"\"string\""}`, id)
		if err := put(cl, key, value).FirstErr(); err != nil {
			t.Fatal(err)
		}
		want[key] = value
	}
	gone := `{"keytype":"SCHEMA","subject":"s3","version":1,"magic":1}`
	if err := put(cl, gone, "").FirstErr(); err != nil {
		t.Fatal(err)
	}
	delete(want, gone)
	compare(t, readSchemas(t, b.addr), want)
	elect(t, cl)
	b.restart(syscall.SIGKILL)
	compare(t, readSchemas(t, b.addr), want)
	elect(t, cl)
}

// put writes a record; an empty key or value is a null one.
func put(cl *kgo.Client, key, value string) kgo.ProduceResults {
	r := &kgo.Record{Topic: "_schemas"}
	if key != "" {
		r.Key = []byte(key)
	}
	if value != "" {
		r.Value = []byte(value)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return cl.ProduceSync(ctx, r)
}

// readSchemas is what a registry knows after it has read the topic, up to a
// record "NOOP" that it writes to know where the end is.
func readSchemas(t *testing.T, addr string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl := harness.Client(t, addr, kgo.ConsumeTopics("_schemas"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	const noop = `{"keytype":"NOOP","magic":0}`
	res := put(cl, noop, "")
	if err := res.FirstErr(); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for next := int64(0); next <= res[0].Record.Offset; {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if got[string(r.Key)] = string(r.Value); r.Value == nil {
				delete(got, string(r.Key))
			}
		})
	}
	return got
}

func compare(t *testing.T, got, want map[string]string) {
	t.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("schemas: got %s, want %s", g, w)
	}
}

// elect joins the group of registries alone, leads it, and leaves.
func elect(t *testing.T, cl *kgo.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "schema-registry", "sr", 10000, 10000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = "v0", []byte(`{"host":"here","port":8081,"master_eligibility":true,"version":1}`)
	join.Protocols = append(join.Protocols, protocol)
	joined, err := join.RequestWith(ctx, cl)
	if err == nil && joined.ErrorCode == kerr.MemberIDRequired.Code {
		join.MemberID = joined.MemberID
		joined, err = join.RequestWith(ctx, cl)
	}
	if err != nil || joined.ErrorCode != 0 || joined.LeaderID != joined.MemberID || len(joined.Members) != 1 {
		t.Fatalf("join: got %+v, %v, want to lead alone", joined, err)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = join.Group, joined.MemberID, joined.Generation
	sync.ProtocolType, sync.Protocol = &join.ProtocolType, &protocol.Name
	assignment := kmsg.NewSyncGroupRequestGroupAssignment()
	assignment.MemberID, assignment.MemberAssignment = joined.MemberID, []byte(`{"master":"here"}`)
	sync.GroupAssignment = append(sync.GroupAssignment, assignment)
	synced, err := sync.RequestWith(ctx, cl)
	if err != nil || synced.ErrorCode != 0 || string(synced.MemberAssignment) != `{"master":"here"}` {
		t.Errorf("sync: got %+v, %v", synced, err)
	}
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.MemberID = join.Group, joined.MemberID
	member := kmsg.NewLeaveGroupRequestMember()
	member.MemberID = joined.MemberID
	leave.Members = append(leave.Members, member)
	if left, err := leave.RequestWith(ctx, cl); err != nil || left.ErrorCode != 0 {
		t.Errorf("leave: got %+v, %v", left, err)
	}
}

// TestKcat: Debian's, whose librdkafka is some years old and asks for other
// versions than the newest.
func TestKcat(t *testing.T) {
	need(t)
	b := startBroker(t)
	for _, codec := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		harness.Kcat(t, b.addr, "k1:v1\nk2:v2\n", "-P", "-t", codec, "-K", ":", "-z", codec, "-H", "a=b", "-X", "enable.idempotence=true")
		want := "0 k1=v1 a=b\n1 k2=v2 a=b\n"
		if got := harness.Kcat(t, b.addr, "", "-C", "-t", codec, "-e", "-q", "-f", `%o %k=%s %h\n`); got != want {
			t.Errorf("%s: got\n%swant\n%s", codec, got, want)
		}
	}
	group := []string{"-G", "g", "-c", "2", "-q", "-X", "auto.offset.reset=earliest", "-f", `%s\n`, "zstd"}
	if got, want := harness.Kcat(t, b.addr, "", group...), "v1\nv2\n"; got != want {
		t.Errorf("group: got %q, want %q", got, want)
	}
	harness.Kcat(t, b.addr, "v3\nv4\n", "-P", "-t", "zstd")
	if got, want := harness.Kcat(t, b.addr, "", group...), "v3\nv4\n"; got != want {
		t.Errorf("group after its commit: got %q, want %q", got, want)
	}
	if got := harness.Kcat(t, b.addr, "", "-Q", "-t", "zstd:0:-1"); !strings.Contains(got, "offset 4") {
		t.Errorf("offsets: got %q, want offset 4", got)
	}
	if got := harness.Kcat(t, b.addr, "", "-L"); !strings.Contains(got, `topic "lz4" with 1 partitions`) {
		t.Errorf("metadata: got\n%s", got)
	}
}
