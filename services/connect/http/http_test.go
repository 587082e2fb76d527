package http_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	rest "github.com/waysideos/wayside/services/connect/http"
	"github.com/waysideos/wayside/services/site"
)

// poster is a device that posts its values.
type poster struct {
	t     *testing.T
	url   string
	fault atomic.Int32
	off   atomic.Bool
}

func (p *poster) Start() { p.off.Store(false) }
func (p *poster) Stop()  { p.off.Store(true) }

func (p *poster) Emit(v int64) error {
	if p.off.Load() {
		return fmt.Errorf("the device is away")
	}
	body := fmt.Sprintf(`{"value":%d}`, v)
	if connecttest.Fault(p.fault.Load()) == connecttest.Malformed {
		body = "{"
	}
	req, _ := http.NewRequest("POST", p.url+"/values", strings.NewReader(body))
	req.SetBasicAuth("dev", "s3cret-word")
	c := http.Client{Timeout: 40 * time.Second}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("got %s", resp.Status)
	}
	return nil
}

func (p *poster) Do(f connecttest.Fault) bool {
	p.fault.Store(int32(f))
	return f != connecttest.Slow
}

func TestConformance(t *testing.T) {
	connecttest.Run(t, connecttest.Case{
		Protocol: "http",
		New: func(t *testing.T, secrets string) (string, connecttest.Device) {
			addr := connecttest.FreeAddress(t)
			write(t, secrets, "password", "s3cret-word\n")
			return "name: dev\nlisten: " + addr + "\nrate: 1000000\nclients: [{name: dev, password: password}]\nposts: [{path: /values, json: true}]",
				&poster{t: t, url: "http://" + addr}
		},
		Make:         func(p *site.Profile) (connect.Connector, error) { return rest.New(p.Connect.HTTP[0]) },
		Acknowledged: true,
		Cannot: map[string]string{
			"malformed answer": "a bad request is its sender's to know: it gets status 400",
			"slow device":      "a client that is slow holds a connection, which times out",
		},
	})
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// box is a REST server with its broker.
type box struct {
	t   *testing.T
	b   *connecttest.Broker
	run *connecttest.Running
	url string
}

func start(t *testing.T, entry string, secrets map[string]string) *box {
	t.Helper()
	dir := t.TempDir()
	for name, text := range secrets {
		write(t, dir, name, text)
	}
	addr := connecttest.FreeAddress(t)
	p, err := site.Parse("test", []byte("version: 1\nsite: box\nconnect: {http: [{name: rest, listen: \""+addr+"\", "+entry+"}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := rest.New(p.Connect.HTTP[0])
	if err != nil {
		t.Fatal(err)
	}
	b := connecttest.NewBroker(t, site.Topic{Name: "jsontest", Partitions: 2}, site.Topic{Name: "hidden", Partitions: 1})
	x := &box{t: t, b: b, url: "http://" + addr}
	x.run = connecttest.Start(t, b.Addr, nil, dir, connect.NewInstance(p.Connect.Instances()[0], c))
	connecttest.Until(t, "the server listens", func() bool { return x.run.State("rest").State == connect.Running })
	return x
}

// call sends a request and returns the answer's status, media type and body.
func (x *box) call(method, path, kind, body string, headers ...string) (int, string, string) {
	x.t.Helper()
	req, err := http.NewRequest(method, x.url+path, strings.NewReader(body))
	if err != nil {
		x.t.Fatal(err)
	}
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	c := http.Client{Timeout: 40 * time.Second}
	resp, err := c.Do(req)
	if err != nil {
		x.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		x.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header.Get("Content-Type"), strings.TrimSpace(string(data))
}

func (x *box) want(status int, body, method, path, kind, in string, headers ...string) {
	x.t.Helper()
	got, _, text := x.call(method, path, kind, in, headers...)
	if got != status || body != "" && text != body {
		x.t.Errorf("%s %s: got %d %s\nwant %d %s", method, path, got, text, status, body)
	}
}

const (
	v2     = "application/vnd.kafka.v2+json"
	asJSON = "application/vnd.kafka.json.v2+json"
	binary = "application/vnd.kafka.binary.v2+json"
)

// The requests and answers of "Confluent REST Proxy API Reference", v2.
func TestProduceV2(t *testing.T) {
	x := start(t, `topics: [jsontest, "made*"]`, nil)
	x.want(200, `["jsontest"]`, "GET", "/topics", "", "")
	x.want(200, `{"key_schema_id":null,"offsets":[{"partition":1,"offset":0,"error_code":null,"error":null},{"partition":1,"offset":1,"error_code":null,"error":null}],"value_schema_id":null}`,
		"POST", "/topics/jsontest", asJSON, `{"records":[{"key":{"a":1},"value":{"foo":"bar"},"partition":1},{"value":["x",2.50],"partition":1}]}`)
	x.want(200, `{"key_schema_id":null,"offsets":[{"partition":0,"offset":0,"error_code":null,"error":null}],"value_schema_id":null}`,
		"POST", "/topics/jsontest/partitions/0", binary, `{"records":[{"key":"a2V5","value":"S2Fma2E="}]}`)
	x.want(200, `{"beginning_offset":0,"end_offset":2}`, "GET", "/topics/jsontest/partitions/1/offsets", "", "")
	x.want(200, `{"partition":1,"leader":1,"replicas":[{"broker":1,"leader":true,"in_sync":true}]}`, "GET", "/topics/jsontest/partitions/1", "", "")
	x.want(404, `{"error_code":40401,"message":"Topic not found."}`, "GET", "/topics/hidden", "", "")
	x.want(404, `{"error_code":40401,"message":"Topic not found."}`, "POST", "/topics/hidden", asJSON, `{"records":[{"value":1}]}`)
	x.want(404, `{"error_code":40402,"message":"Partition not found."}`, "POST", "/topics/jsontest", asJSON, `{"records":[{"value":1,"partition":9}]}`)
	x.want(415, "", "POST", "/topics/jsontest", "application/vnd.kafka.avro.v2+json", `{}`)
	x.want(422, "", "POST", "/topics/jsontest", binary, `{"records":[{"value":"no base64!"}]}`)
	x.want(400, "", "POST", "/topics/jsontest", asJSON, `{"records":`)
	x.want(200, "", "POST", "/topics/made-on-demand", asJSON, `{"records":[{"value":1}]}`)
	got := map[string]bool{}
	for _, r := range x.b.Read("jsontest", 3) {
		got[fmt.Sprintf("%d %s %s", r.Partition, r.Key, r.Value)] = true
	}
	want := map[string]bool{`1 {"a":1} {"foo":"bar"}`: true, `1  ["x",2.50]`: true, `0 key Kafka`: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("records (-want +got):\n%s", diff)
	}
}

func TestConsumeV2(t *testing.T) {
	x := start(t, `topics: [jsontest]`, nil)
	base := "/consumers/my_json_consumer/instances/my_consumer_instance"
	create := `{"name":"my_consumer_instance","format":"json","auto.offset.reset":"earliest","auto.commit.enable":false,"consumer.request.timeout.ms":2000}`
	x.want(200, `{"base_uri":"`+x.url+base+`","instance_id":"my_consumer_instance"}`, "POST", "/consumers/my_json_consumer", v2, create)
	x.want(409, "", "POST", "/consumers/my_json_consumer", v2, create)
	x.want(404, `{"error_code":40401,"message":"Topic not found."}`, "POST", base+"/subscription", v2, `{"topics":["hidden"]}`)
	x.want(204, "", "POST", base+"/subscription", v2, `{"topics":["jsontest"]}`)
	x.want(200, `{"topics":["jsontest"]}`, "GET", base+"/subscription", "", "")
	x.want(200, "", "POST", "/topics/jsontest/partitions/0", asJSON, `{"records":[{"key":"k","value":{"n":1}},{"value":2}]}`)
	read := func(want string) {
		t.Helper()
		var text string
		connecttest.Until(t, "records "+want, func() bool {
			_, kind, got := x.call("GET", base+"/records?timeout=3000&max_bytes=300000", "", "", "Accept", asJSON)
			if text = got; kind != asJSON {
				t.Fatalf("media type %s: %s", kind, got)
			}
			return text != "[]"
		})
		if text != want {
			t.Errorf("records: got %s\nwant %s", text, want)
		}
	}
	first := `[{"key":"k","offset":0,"partition":0,"topic":"jsontest","value":{"n":1}},{"key":null,"offset":1,"partition":0,"topic":"jsontest","value":2}]`
	read(first)
	x.want(406, "", "GET", base+"/records", "", "", "Accept", binary)
	x.want(200, "", "POST", base+"/offsets", v2, `{"offsets":[{"topic":"jsontest","partition":0,"offset":0}]}`)
	x.want(200, `{"offsets":[{"topic":"jsontest","partition":0,"offset":1,"metadata":""}]}`, "GET", base+"/offsets", v2, `{"partitions":[{"topic":"jsontest","partition":0}]}`)
	x.want(204, "", "POST", base+"/positions/beginning", v2, `{"partitions":[{"topic":"jsontest","partition":0}]}`)
	read(first)
	x.want(200, "", "POST", base+"/offsets", v2, "")
	x.want(204, "", "DELETE", base, v2, "")
	x.want(404, `{"error_code":40403,"message":"Consumer instance not found."}`, "GET", base+"/records", "", "", "Accept", asJSON)
	// Who comes later goes on behind what was committed.
	x.want(200, "", "POST", "/consumers/my_json_consumer", v2, create)
	x.want(204, "", "POST", base+"/assignments", v2, `{"partitions":[{"topic":"jsontest","partition":0}]}`)
	x.want(200, "", "POST", "/topics/jsontest/partitions/0", asJSON, `{"records":[{"value":3}]}`)
	read(`[{"key":null,"offset":2,"partition":0,"topic":"jsontest","value":3}]`)
}

// A broker refuses a batch whole; here it costs only what it was refused for.
func TestARefusalCostsNobodyElse(t *testing.T) {
	x := start(t, `topics: ["kept*"]`, nil)
	at := clusterOf(x)
	x.want(201, "", "POST", at+"/topics", "application/json", `{"topic_name":"kept","partitions_count":1,"configs":[{"name":"cleanup.policy","value":"compact"}]}`)
	_, _, text := x.call("POST", "/topics/kept", asJSON, `{"records":[{"key":1,"value":1},{"value":"without a key"},{"key":2,"value":2}]}`)
	var got struct {
		Offsets []struct {
			Offset *int64
			Code   *int `json:"error_code"`
		}
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil || len(got.Offsets) != 3 {
		t.Fatalf("got %s, %v", text, err)
	}
	if o := got.Offsets; o[0].Offset == nil || o[1].Code == nil || *o[1].Code != 50002 || o[2].Offset == nil || *o[2].Offset != 1 {
		t.Errorf("got %s; want only the second refused", text)
	}
	if _, _, text := x.call("POST", at+"/topics/kept/records", "application/json", `{"value":{"type":"JSON","data":1}}{"key":{"type":"JSON","data":3},"value":{"type":"JSON","data":3}}`); strings.Count(text, `"error_code":400`) != 1 || !strings.Contains(text, `"offset":2`) {
		t.Errorf("stream: got %s", text)
	}
	x.b.Read("kept", 3)
}

func clusterOf(x *box) string {
	x.t.Helper()
	var clusters struct {
		Data []struct {
			ID string `json:"cluster_id"`
		}
	}
	_, _, text := x.call("GET", "/v3/clusters", "", "")
	if err := json.Unmarshal([]byte(text), &clusters); err != nil || len(clusters.Data) != 1 {
		x.t.Fatalf("clusters: %s, %v", text, err)
	}
	return "/v3/clusters/" + clusters.Data[0].ID
}

// Who holds a stream open, or promises a body and does not send it, takes
// nothing from others.
func TestWhatHasNotArrivedTakesNoRoom(t *testing.T) {
	x := start(t, `topics: [jsontest], posts: [{path: /p}]`, nil)
	at := clusterOf(x)
	for i := range 20 {
		pr, pw := io.Pipe()
		defer pw.Close()
		path := at + "/topics/jsontest/records"
		if i%2 == 0 {
			path = "/p"
		}
		req, err := http.NewRequestWithContext(t.Context(), "POST", x.url+path, pr)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		if i%2 == 0 {
			req.ContentLength = 4_000_000
		}
		go http.DefaultClient.Do(req)
		if _, err := pw.Write([]byte(`{"value":`)); err != nil { // it is on its way when this returns
			t.Fatal(err)
		}
	}
	large := `"` + strings.Repeat("x", 1_000_000) + `"`
	x.want(200, `{"records":1}`, "POST", "/p", "application/json", large)
	if _, _, text := x.call("POST", at+"/topics/jsontest/records", "application/json", `{"value":{"type":"JSON","data":`+large+`}}`); !strings.Contains(text, `"offset":0`) {
		t.Errorf("stream: got %.200s", text)
	}
}

// A body that does not say how large it is, and is too large, is no matter of
// room, however large bodies may be.
func TestTooLargeIsNoMatterOfRoom(t *testing.T) {
	x := start(t, `max_body: 9MB, posts: [{path: /p}]`, nil)
	resp, err := http.Post(x.url+"/p", "text/plain", io.LimitReader(zeros{}, 9_000_001))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %s, want 413", resp.Status)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// The requests of "Confluent REST Proxy API Reference", v3.
func TestV3(t *testing.T) {
	x := start(t, `topics: [jsontest, "new*"]`, nil)
	var clusters struct {
		Kind string
		Data []struct {
			ID string `json:"cluster_id"`
		}
	}
	_, kind, text := x.call("GET", "/v3/clusters", "", "")
	if err := json.Unmarshal([]byte(text), &clusters); err != nil || clusters.Kind != "KafkaClusterList" || len(clusters.Data) != 1 || kind != "application/json" {
		t.Fatalf("clusters: %s (%v)", text, err)
	}
	at := "/v3/clusters/" + clusters.Data[0].ID
	x.want(404, "", "GET", "/v3/clusters/other/topics", "", "")
	x.want(201, "", "POST", at+"/topics", "application/json", `{"topic_name":"new-one","partitions_count":3,"configs":[{"name":"cleanup.policy","value":"compact"}]}`)
	x.want(403, "", "POST", at+"/topics", "application/json", `{"topic_name":"hidden2"}`)
	if _, _, text := x.call("GET", at+"/topics/new-one", "", ""); !strings.Contains(text, `"partitions_count":3`) {
		t.Errorf("topic: %s", text)
	}
	x.want(404, `{"error_code":40403,"message":"Topic not found."}`, "GET", at+"/topics/hidden", "", "")
	stream := `{"partition_id":1,"headers":[{"name":"h","value":"SGVhZGVy"}],"key":{"type":"BINARY","data":"Zm9vYmFy"},"value":{"type":"JSON","data":{"foo":"bar"}},"timestamp":"2021-02-05T19:14:42Z"}
{"value":{"type":"STRING","data":"text"},"partition_id":1}{"value":{"type":"AVRO","data":"x"}}{"value":{"type":"JSON","data":7},"partition_id":1}`
	status, _, text := x.call("POST", at+"/topics/jsontest/records", "application/json", stream)
	lines := strings.Split(text, "\n")
	if status != 200 || len(lines) != 4 {
		t.Fatalf("got %d, %s", status, text)
	}
	for i, want := range []string{`"offset":0,`, `"offset":1,`, `"error_code":422`, `"offset":2,`} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("answer %d is %s, want %s in it", i, lines[i], want)
		}
	}
	if want := `"timestamp":"2021-02-05T19:14:42.000Z","topic_name":"jsontest","value":{"size":13,"type":"JSON"}`; !strings.Contains(lines[0], want) {
		t.Errorf("answer is %s, want %s in it", lines[0], want)
	}
	r := x.b.Read("jsontest", 3)[0]
	if string(r.Key) != "foobar" || string(r.Value) != `{"foo":"bar"}` || string(r.Headers[0].Value) != "Header" {
		t.Errorf("record is %q %q %v", r.Key, r.Value, r.Headers)
	}
	x.want(400, "", "POST", at+"/topics/jsontest/records", "application/json", "no json")
}

// A stream is answered record by record while it is open.
func TestV3Streams(t *testing.T) {
	x := start(t, `topics: [jsontest]`, nil)
	pr, pw := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), "POST", x.url+clusterOf(x)+"/topics/jsontest/records", pr)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	go func() { fmt.Fprint(pw, `{"value":{"type":"JSON","data":0}}`) }()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	dec := json.NewDecoder(resp.Body)
	for i := range 3 {
		var a struct {
			Code int `json:"error_code"`
		}
		if err := dec.Decode(&a); err != nil || a.Code != 200 {
			t.Fatalf("answer %d: %+v, %v", i, a, err)
		}
		fmt.Fprintf(pw, `{"value":{"type":"JSON","data":%d}}`, i+1)
	}
	pw.Close()
	x.b.Read("jsontest", 4)
}

func TestPosts(t *testing.T) {
	x := start(t, `posts: [{path: /machines/*, topic: "m.{path}", key: "{client}", lines: true, json: true}, {path: /hook, webhook: {secret: hook}}], clients: [{name: gw, token: token}]`,
		map[string]string{"token": "t0ken-word", "hook": "h00k-word"})
	auth := []string{"Authorization", "Bearer t0ken-word"}
	x.want(401, "", "POST", "/machines/press/1", "", "1")
	x.want(401, "", "POST", "/machines/press/1", "", "1", "Authorization", "Bearer other")
	x.want(200, `{"records":2}`, "POST", "/machines/press/1", "application/x-ndjson", "{\"a\":1}\r\n\n2\n", auth...)
	x.want(400, "", "POST", "/machines/press/1", "", "{\"a\":1}\nno\n", auth...)
	rs := x.b.Read("m.press.1", 2)
	if string(rs[0].Value) != `{"a":1}` || string(rs[1].Value) != "2" || string(rs[0].Key) != "gw" {
		t.Errorf("records are %q %q, key %q", rs[0].Value, rs[1].Value, rs[0].Key)
	}
	body := `{"action":"opened"}`
	mac := hmac.New(sha256.New, []byte("h00k-word"))
	mac.Write([]byte(body))
	sign := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	x.want(200, `{"records":1}`, "POST", "/hook", "application/json", body, "X-Hub-Signature-256", sign)
	x.want(401, "", "POST", "/hook", "application/json", body+" ", "X-Hub-Signature-256", sign)
	x.want(401, "", "POST", "/hook", "application/json", body)
	x.want(404, "", "GET", "/topics", "", "", auth...) // no topics are given: no REST interface
	if got := x.b.Read("rest", 1)[0]; string(got.Value) != body || string(got.Key) != "hook" {
		t.Errorf("record of the webhook is %q, key %q", got.Value, got.Key)
	}
}

func TestLimits(t *testing.T) {
	x := start(t, `topics: [jsontest], rate: 5, max_body: 1kB, posts: [{path: /p}]`, nil)
	x.want(413, "", "POST", "/p", "", strings.Repeat("x", 2000))
	ten := `{"records":[` + strings.TrimSuffix(strings.Repeat(`{"value":1},`, 10), ",") + `]}`
	x.want(200, "", "POST", "/topics/jsontest", asJSON, ten)
	req, _ := http.NewRequest("POST", x.url+"/topics/jsontest", strings.NewReader(ten))
	req.Header.Set("Content-Type", asJSON)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %s, Retry-After %q; want 429 and when to come again", resp.Status, resp.Header.Get("Retry-After"))
	}
}

// A broker that is away is no 200, and the answer says to come again.
func TestBrokerAway(t *testing.T) {
	x := start(t, `posts: [{path: /p}]`, nil)
	x.b.Stop()
	c := http.Client{Timeout: 2 * time.Second}
	if resp, err := c.Post(x.url+"/p", "", bytes.NewReader([]byte("1"))); err == nil && resp.StatusCode == http.StatusOK {
		t.Error("acknowledged without a broker")
	}
	x.b.Start()
	x.want(200, `{"records":1}`, "POST", "/p", "", "2")
}
