package connect

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/services/connect/connecttest"
)

// TestREST calls the REST interface with curl, as Confluent's documentation
// has it, and kills the service in the middle: what was answered is there.
func TestREST(t *testing.T) {
	need(t)
	curl := tool(t, "curl")
	broker := edge(t)
	addr := connecttest.FreeAddress(t)
	site := profile(t, fmt.Sprintf("connect: {http: [{name: rest, listen: %q, topics: [jsontest], rate: 1000000, clients: [{name: till, password: word}]}]}\n", addr))
	secrets, data := t.TempDir(), t.TempDir()
	write(t, filepath.Join(secrets, "word"), "till-pass-word\n")
	run := func() *process {
		p := connectors(t, "--site", site, "--broker", broker.addr, "--data", data, "--secrets", secrets)
		until(t, "the connector to listen", func() bool {
			c, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				c.Close()
			}
			return err == nil
		})
		return p
	}
	p := run()
	call := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(curl, append([]string{"-s", "-u", "till:till-pass-word"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("curl %q: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	got := call("-X", "POST", "-H", "Content-Type: application/vnd.kafka.json.v2+json", "-H", "Accept: application/vnd.kafka.v2+json",
		"--data", `{"records":[{"value":{"foo":"bar"}}]}`, "http://"+addr+"/topics/jsontest")
	if want := `{"key_schema_id":null,"offsets":[{"partition":0,"offset":0,"error_code":null,"error":null}],"value_schema_id":null}`; got != want {
		t.Errorf("produce: got %s, want %s", got, want)
	}
	call("-X", "POST", "-H", "Content-Type: application/vnd.kafka.v2+json", "--data", `{"name":"my_consumer_instance","format":"json","auto.offset.reset":"earliest"}`, "http://"+addr+"/consumers/my_json_consumer")
	base := "http://" + addr + "/consumers/my_json_consumer/instances/my_consumer_instance"
	call("-X", "POST", "-H", "Content-Type: application/vnd.kafka.v2+json", "--data", `{"topics":["jsontest"]}`, base+"/subscription")
	until(t, "the record to be consumed", func() bool {
		return call("-X", "GET", "-H", "Accept: application/vnd.kafka.json.v2+json", base+"/records") == `[{"key":null,"offset":0,"partition":0,"topic":"jsontest","value":{"foo":"bar"}}]`
	})
	call("-X", "DELETE", "-H", "Content-Type: application/vnd.kafka.v2+json", base)
	if got := call("-X", "GET", "http://"+addr+"/topics"); got != `["jsontest"]` {
		t.Errorf("topics: %s", got)
	}
	if out, _ := exec.Command(curl, "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://"+addr+"/topics").Output(); string(out) != "401" {
		t.Errorf("without a login: got %s, want 401", out)
	}
	if strings.Contains(p.out.String(), "till-pass-word") {
		t.Error("the password was logged")
	}
	killed(t, p, addr)
	run()
	clusters := call("http://" + addr + "/v3/clusters")
	var list struct {
		Data []struct {
			ID string `json:"cluster_id"`
		}
	}
	if err := json.Unmarshal([]byte(clusters), &list); err != nil || len(list.Data) != 1 {
		t.Fatalf("clusters: %s", clusters)
	}
	got = call("-X", "POST", "-H", "Content-Type: application/json", "--data", `{"value":{"type":"JSON","data":{"foo":"bar"}}}{"value":{"type":"JSON","data":2}}`,
		"http://"+addr+"/v3/clusters/"+list.Data[0].ID+"/topics/jsontest/records")
	if strings.Count(got, `"error_code":200`) != 2 {
		t.Errorf("v3 produce: %s", got)
	}
}

// killed posts until the service is killed, and looks for what was answered.
func killed(t *testing.T, p *process, addr string) {
	t.Helper()
	answered := make(chan int, 100000)
	for i := range 4 {
		go func() {
			defer func() { answered <- -1 }()
			for n := i; ; n += 4 {
				req, _ := http.NewRequest("POST", "http://"+addr+"/topics/jsontest", strings.NewReader(fmt.Sprintf(`{"records":[{"value":%d}]}`, n)))
				req.Header.Set("Content-Type", "application/vnd.kafka.json.v2+json")
				req.SetBasicAuth("till", "till-pass-word")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					return
				}
				resp.Body.Close()
				if resp.StatusCode == http.StatusOK {
					answered <- n
				}
			}
		}()
	}
	until(t, "some hundred answers", func() bool { return len(answered) > 300 })
	p.kill()
	sure, ended := map[string]bool{}, 0
	for ended < 4 {
		if n := <-answered; n < 0 {
			ended++
		} else {
			sure[fmt.Sprint(n)] = true
		}
	}
	brokerAddr := ""
	for i, a := range p.cmd.Args {
		if a == "--broker" {
			brokerAddr = p.cmd.Args[i+1]
		}
	}
	for _, r := range records(t, brokerAddr, "jsontest", atLeast(len(sure)+1)) {
		delete(sure, string(r.Value))
	}
	if len(sure) > 0 {
		t.Errorf("%d records were answered and are not there", len(sure))
	}
}
