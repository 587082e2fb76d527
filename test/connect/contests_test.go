package connect

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waysideos/wayside/test/harness"
)

// oneEach is n entries of a list, of the numbers from 1 and from 61.
func oneEach(n int, format string) string {
	var all []string
	for i := 1; i <= n; i++ {
		all = append(all, fmt.Sprintf(format, i, i+60))
	}
	return strings.Join(all, ", ")
}

// contests are all that Telegraf has an input for.
var contests = []contest{
	{
		name: "HTTP", what: "posts of 200 bytes, 64 connections", address: harness.FreeAddr, load: pushing(httpPosts, 64, 180),
		protocol: "http", ours: `listen: %[1]s
rate: 1000000
posts: [{path: /values, json: true}]`,
		peer: `[[inputs.http_listener_v2]]
  service_address = "tcp://%[1]s"
  paths = ["/values"]
  data_format = "value"
  data_type = "string"
`,
	},
	{
		name: "syslog, TCP", what: "messages of 250 bytes, RFC 5424, 8 connections", address: harness.FreeAddr, load: pushing(syslogTCP, 8, 180),
		protocol: "syslog", ours: `listen: %[1]s
transport: tcp`,
		peer: `[[inputs.syslog]]
  server = "tcp://%[1]s"
`,
	},
	{
		name: "syslog, UDP", what: "messages of 250 bytes, RFC 5424, as fast as they can be sent", address: freeDatagrams, load: pushing(syslogUDP, 1, 180),
		protocol: "syslog", ours: "listen: %[1]s",
		peer: `[[inputs.syslog]]
  server = "udp://%[1]s"
`,
	},
	{
		name: "SNMP traps", what: "version 2c, 3 variables, as fast as they can be sent", address: freeDatagrams, load: pushing(snmpTraps, 1, 100),
		protocol: "snmp_traps", ours: "listen: %[1]s",
		peer: `[[inputs.snmp_trap]]
  service_address = "udp://%[1]s"
  path = []
`,
	},
	{
		name: "MQTT client", what: "subscribed to mosquitto, QoS 1, 200 bytes, 16 publishers", address: harness.FreeAddr, device: mosquitto, load: pushing(mqttPublisher(1), 16, 200),
		protocol: "mqtt_client", ours: `address: mqtt://%[1]s
client_id: ours
subscribe: [{filter: values/#, qos: 1}]`,
		peer: `[[inputs.mqtt_consumer]]
  servers = ["tcp://%[1]s"]
  topics = ["values/#"]
  qos = 1
  max_undelivered_messages = 50000
  data_format = "value"
  data_type = "string"
`,
	},
	{
		name: "files", what: "a new file of 200,000 lines of 100 bytes", address: func(t testing.TB) string { return t.TempDir() },
		device: func(testing.TB, string) {}, load: newFile,
		protocol: "files", ours: `folder: %[1]s
match: "*.log"
every: 100ms
settle: 100ms
format: lines`,
		peer: `[[inputs.tail]]
  files = ["%[1]s/*.log"]
  initial_read_offset = "beginning"
  max_undelivered_lines = 50000
  data_format = "value"
  data_type = "string"
`,
	},
	{
		name: "Modbus", what: "100 registers of pymodbus, 10 times a second; Telegraf makes one record of them", address: harness.FreeAddr, device: pymodbus, fields: 100,
		protocol: "modbus", ours: `address: %[1]s
every: 100ms
points: [` + oneEach(100, `{name: "p%[1]d", address: "holding:%[2]d"}`) + "]",
		peer: `[[inputs.modbus]]
  name = "m"
  controller = "tcp://%[1]s"
  configuration_type = "request"
  [[inputs.modbus.request]]
    slave_id = 1
    byte_order = "ABCD"
    register = "holding"
    fields = [` +
			oneEach(100, `{address = %[2]d, type = "UINT16", name = "p%[1]d"}`) + `]
`,
	},
	{
		name: "S7", what: "50 words of Snap7's server, 10 times a second; Telegraf makes one record of them", address: harness.FreeAddr, device: snap7, fields: 50,
		protocol: "s7", ours: `address: %[1]s
slot: 2
every: 100ms
points: [` + oneEach(50, `{name: "p%[1]d", address: DB10.DBW%[1]d}`) + "]",
		peer: `[[inputs.s7comm]]
  server = "%[1]s"
  rack = 0
  slot = 2
  [[inputs.s7comm.metric]]
    fields = [` +
			oneEach(50, `{name = "p%[1]d", address = "DB10.W%[1]d"}`) + `]
`,
	},
	{
		name: "SNMP", what: "20 objects of net-snmp's agent, 10 times a second; Telegraf makes one record of them", address: freeDatagrams, device: snmpAgent, fields: 20,
		protocol: "snmp", ours: `address: %[1]s
every: 100ms
points: [` + oneEach(20, `{name: "p%[1]d", oid: 1.3.6.1.2.1.5.%[1]d.0}`) + "]",
		peer: `[[inputs.snmp]]
  agents = ["udp://%[1]s"]
  path = []
` + strings.ReplaceAll(oneEach(20, `  [[inputs.snmp.field]]
    name = "p%[1]d"
    oid = ".1.3.6.1.2.1.5.%[1]d.0"
`), ", ", ""),
	},
	{
		name: "OPC UA", what: "subscribed to 100 variables of asyncua that change 5 times a second", address: harness.FreeAddr, device: opcuaLoad,
		protocol: "opcua", ours: `endpoint: opc.tcp://%[1]s
interval: 100ms
points: [` + oneEach(100, `{name: "p%[1]d", node: "ns=2;s=V%[1]d", sampling: 100ms}`) + "]",
		peer: `[[inputs.opcua_listener]]
  endpoint = "opc.tcp://%[1]s"
  security_policy = "None"
  security_mode = "None"
  nodes = [` +
			oneEach(100, `{name = "p%[1]d", namespace = "2", identifier_type = "s", identifier = "V%[1]d"}`) + `]
`,
	},
}

func dials(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		c.Close()
	}
	return err == nil
}

func mosquitto(t testing.TB, addr string) {
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	write(t, conf, "listener "+port(t, addr)+" 127.0.0.1\nallow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0\n")
	start(t, tool(t, "mosquitto"), "-c", conf)
	until(t, "mosquitto to serve", func() bool { return dials(addr) })
}

func pymodbus(t testing.TB, addr string) {
	start(t, python(t, "pymodbus==3.6.9"), filepath.Join("testdata", "python", "modbus_server.py"), port(t, addr), "tcp")
	until(t, "pymodbus to serve", func() bool { return dials(addr) })
}

func snap7(t testing.TB, addr string) {
	start(t, python(t, "python-snap7==2.0.2"), filepath.Join("testdata", "python", "s7_server.py"), port(t, addr))
	until(t, "snap7 to serve", func() bool { return dials(addr) })
}

func opcuaLoad(t testing.TB, addr string) {
	start(t, python(t, "asyncua==2.1.0"), filepath.Join("testdata", "python", "opcua_load.py"), port(t, addr))
	until(t, "asyncua to serve", func() bool { return dials(addr) })
}

func snmpAgent(t testing.TB, addr string) {
	conf := filepath.Join(t.TempDir(), "agent.conf")
	write(t, conf, "agentAddress udp:"+addr+"\nrocommunity public\n")
	start(t, tool(t, "snmpd"), "-f", "-Lo", "-r", "-C", "-c", conf)
	until(t, "snmpd to serve", func() bool { return takesDatagrams(t, addr) })
}

// newFile puts a file into the folder at once.
func newFile(t testing.TB, dir string, d time.Duration) int {
	n := 200_000
	if d < time.Second {
		n = 10
	}
	var b bytes.Buffer
	for i := range n {
		b.WriteString(text(i, 99) + "\n")
	}
	part := filepath.Join(dir, "part")
	write(t, part, b.String())
	if err := os.Rename(part, filepath.Join(dir, fmt.Sprintf("%d.log", time.Now().UnixNano()))); err != nil {
		t.Fatal(err)
	}
	return n
}
