package connect

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// telegrafVersion is the peer of the connectors: Telegraf's inputs of the same
// protocols, which write to the same Kafka broker.
const telegrafVersion = "v1.37.0"

// telegrafParts are its plugins that are built in.
var telegrafParts = []string{
	"custom", "inputs.http_listener_v2", "inputs.modbus", "inputs.mqtt_consumer", "inputs.opcua_listener", "inputs.s7comm", "inputs.snmp",
	"inputs.snmp_trap", "inputs.syslog", "inputs.tail", "outputs.kafka", "parsers.value", "serializers.influx",
}

// telegraf is the program, built once from its module and kept from run to run.
func telegraf(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "wayside", "telegraf-"+telegrafVersion)
	bin := filepath.Join(dir, "telegraf")
	if _, err := os.Stat(bin); err == nil {
		return bin
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "go.mod"), "module peer\n\ngo 1.26\n\nrequire github.com/influxdata/telegraf "+telegrafVersion+"\n")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-tags", strings.Join(telegrafParts, ","), "-o", bin, "github.com/influxdata/telegraf/cmd/telegraf")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build telegraf: %v\n%s", err, out)
	}
	return bin
}

// telegrafAgent is how Telegraf is set up: as durable as it can be, buffers
// that lose nothing, and batches that suit it. %s are broker and topic.
const telegrafAgent = `
[agent]
  interval = "100ms"
  round_interval = false
  metric_batch_size = 5000
  metric_buffer_limit = 2000000
  flush_interval = "200ms"
  omit_hostname = true
  snmp_translator = "gosmi"
  skip_processors_after_aggregators = true
[[outputs.kafka]]
  brokers = [%q]
  topic = %q
  required_acks = -1
  data_format = "influx"
`

// startTelegraf runs it with one input.
func startTelegraf(t testing.TB, broker, topic, input string) *process {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "telegraf.conf")
	write(t, conf, fmt.Sprintf(telegrafAgent, broker, topic)+input)
	return start(t, telegraf(t), "--config", conf)
}
