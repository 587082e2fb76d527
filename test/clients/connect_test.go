package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/test/harness"
)

// properties is a Java properties file of the test.
func properties(t *testing.T, values map[string]string) string {
	t.Helper()
	var text strings.Builder
	for k, v := range values {
		fmt.Fprintf(&text, "%s=%s\n", k, v)
	}
	f, err := os.CreateTemp(t.TempDir(), "*.properties")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text.String()); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// program is a Java program that runs beside the test.
type program struct {
	cmd    *exec.Cmd
	output string
}

func startJava(t *testing.T, class string, args ...string) *program {
	t.Helper()
	p := &program{cmd: javaIn(t, javaProject(t, "java"), "info", class, args...), output: filepath.Join(t.TempDir(), "output")}
	out, err := os.Create(p.output)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd.Stdout, p.cmd.Stderr = out, out
	start(t, p.cmd)
	t.Cleanup(func() {
		if text, _ := os.ReadFile(p.output); t.Failed() {
			t.Logf("%s printed, at the end:\n%s", class, text[max(0, len(text)-32<<10):])
		}
	})
	return p
}

func (p *program) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(20*time.Second, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	p.cmd.Wait()
}

// worker is what both kinds of Connect worker are given.
func worker(b *broker, more map[string]string) map[string]string {
	all := map[string]string{
		"bootstrap.servers":        b.addr,
		"key.converter":            "org.apache.kafka.connect.storage.StringConverter",
		"value.converter":          "org.apache.kafka.connect.storage.StringConverter",
		"plugin.discovery":         "service_load",
		"offset.flush.interval.ms": "500",
	}
	for k, v := range more {
		all[k] = v
	}
	return all
}

func fileSource(file, topic string) map[string]string {
	return map[string]string{"name": "source", "connector.class": "FileStreamSource", "file": file, "topic": topic, "tasks.max": "1"}
}

func fileSink(file, topic string) map[string]string {
	return map[string]string{"name": "sink", "connector.class": "FileStreamSink", "file": file, "topics": topic, "tasks.max": "1"}
}

// appendLines writes the lines from..to-1 to a file, as a program would.
func appendLines(t *testing.T, file string, from, to int) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := from; i < to; i++ {
		fmt.Fprintf(f, "line %d\n", i)
	}
}

// awaitLines waits until a file holds the lines 0..n-1 in order. A sink is at
// least once: it may write some again.
func awaitLines(t *testing.T, file string, n int) {
	t.Helper()
	harness.Eventually(t, 90*time.Second, fmt.Sprintf("the sink has written %d lines", n), func(context.Context) error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var got []string
		for line := range strings.Lines(string(text)) {
			if !slices.Contains(got, line) {
				got = append(got, line)
			}
		}
		if diff := cmp.Diff(wantLines(n), strings.Join(got, "")); diff != "" {
			return fmt.Errorf("the sink's file has %d different lines", len(got))
		}
		return nil
	})
}

func wantLines(n int) string {
	var want strings.Builder
	for i := range n {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	return want.String()
}

// TestConnectStandalone: a file goes into a topic and out to a file, and a
// broker that dies in between delays that only.
func TestConnectStandalone(t *testing.T) {
	need(t)
	b := startBroker(t)
	harness.CreateTopic(t, b.addr, "lines", 1)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	conf := worker(b, map[string]string{"offset.storage.file.filename": filepath.Join(dir, "offsets"), "listeners": "http://" + harness.FreeAddr(t)})
	appendLines(t, in, 0, 100)
	startJava(t, "org.apache.kafka.connect.cli.ConnectStandalone",
		properties(t, conf), properties(t, fileSource(in, "lines")), properties(t, fileSink(out, "lines")))
	awaitLines(t, out, 100)
	b.restart(syscall.SIGKILL)
	appendLines(t, in, 100, 200)
	awaitLines(t, out, 200)
}

// TestConnectDistributed: connectors, offsets and state live in compacted
// topics of the broker, so that a new worker goes on where the last one was;
// the source writes by transactions, exactly once.
func TestConnectDistributed(t *testing.T) {
	need(t)
	b := startBroker(t)
	harness.CreateTopic(t, b.addr, "lines", 1)
	dir := t.TempDir()
	in, out := filepath.Join(dir, "in"), filepath.Join(dir, "out")
	rest := harness.FreeAddr(t)
	conf := properties(t, worker(b, map[string]string{
		"group.id": "connect", "listeners": "http://" + rest,
		"config.storage.topic": "connect-configs", "config.storage.replication.factor": "1",
		"offset.storage.topic": "connect-offsets", "offset.storage.replication.factor": "1", "offset.storage.partitions": "2",
		"status.storage.topic": "connect-status", "status.storage.replication.factor": "1", "status.storage.partitions": "1",
		"exactly.once.source.support":      "enabled",
		"scheduled.rebalance.max.delay.ms": "0",
	}))
	first := startJava(t, "org.apache.kafka.connect.cli.ConnectDistributed", conf)
	source := fileSource(in, "lines")
	source["exactly.once.support"] = "required"
	appendLines(t, in, 0, 100)
	putConnector(t, rest, source)
	putConnector(t, rest, fileSink(out, "lines"))
	awaitLines(t, out, 100)
	first.stop()
	b.restart(syscall.SIGKILL)
	appendLines(t, in, 100, 200)
	startJava(t, "org.apache.kafka.connect.cli.ConnectDistributed", conf)
	awaitLines(t, out, 200)

	got := ""
	for _, r := range committed(t, b.addr, "lines", 200) {
		got += string(r.Value) + "\n"
	}
	if diff := cmp.Diff(wantLines(200), got); diff != "" {
		t.Errorf("the topic's committed records (-want +got):\n%s", diff)
	}
	for _, topic := range []string{"connect-configs", "connect-offsets", "connect-status"} {
		if policy := topicConfig(t, b.addr, topic, "cleanup.policy"); policy != "compact" {
			t.Errorf("%s: got cleanup.policy=%s, want compact", topic, policy)
		}
	}
}

func putConnector(t *testing.T, rest string, conf map[string]string) {
	t.Helper()
	body, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, time.Minute, "the worker takes the connector "+conf["name"], func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, "PUT", "http://"+rest+"/connectors/"+conf["name"]+"/config", bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode/100 != 2 {
			text, _ := io.ReadAll(res.Body)
			return fmt.Errorf("PUT: %s: %s", res.Status, text)
		}
		return nil
	})
}

// committed are a topic's first n committed records, and any that come with them.
func committed(t *testing.T, addr, topic string, n int) []*kgo.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cl := harness.Client(t, addr, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer cl.Close()
	var got []*kgo.Record
	for len(got) < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("read %s: %d records, then %v", topic, len(got), err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, r) })
	}
	return got
}

func topicConfig(t *testing.T, addr, topic, key string) string {
	t.Helper()
	cl := harness.Client(t, addr)
	defer cl.Close()
	configs, err := kadm.NewClient(cl).DescribeTopicConfigs(t.Context(), topic)
	if err != nil || len(configs) != 1 || configs[0].Err != nil {
		t.Fatalf("describe %s: %v %v", topic, configs, err)
	}
	for _, c := range configs[0].Configs {
		if c.Key == key {
			return c.MaybeValue()
		}
	}
	return ""
}
