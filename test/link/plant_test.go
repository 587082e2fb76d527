package link

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gopcua/opcua/id"
	"github.com/gopcua/opcua/server"
	"github.com/gopcua/opcua/ua"

	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/services/console"
	"github.com/waysideos/wayside/test/harness"
)

// hostFromGuest is this machine, as a guest of QEMU's user network sees it.
const hostFromGuest = "10.0.2.2"

const plantProfile = `version: 1
site: shop-0042
telemetry: {every: 5s}
connect:
  mqtt:
    routes: [{filter: "#", topic: mqtt}]
  modbus:
    - name: press
      address: %[2]s
      every: 200ms
      points:
        - {name: weight, address: "holding:0", type: uint16}
        - {name: setpoint, address: "holding:1", type: uint16, writable: true}
      commands: {topic: press.commands}
  opcua:
    - name: line
      endpoint: %[3]s
      interval: 200ms
      points: [{name: speed, node: "ns=1;s=speed"}]
  http:
    - name: web
      listen: :8082
      posts: [{path: /orders, topic: web, json: true}]
links:
  - name: up
    bootstrap: [%[1]q]
    topics: [mqtt, press, line, web, press.commands.answers, wayside.telemetry]
    prefix: shop.
  - name: down
    bootstrap: [%[1]q]
    direction: down
    topics: [press.commands]
`

// stickSection carries lots away on a stick.
const stickSection = `  file_sink:
    - name: stick
      topics: [lots]
      stick: wayside-data
      format: json
      rotate: {every: 1s}
`

// TestPlant has a box with four kinds of devices around it: what they say
// reaches the centre, a command of the centre changes a register of one of
// them and is confirmed, and the box's telemetry tells the centre of it all.
// In the long form the box that runs is given another profile then.
func TestPlant(t *testing.T) {
	harness.NeedVM(t)
	kafka := harness.StartKafka(t)
	harness.CreateTopic(t, kafka.HostAddr, "press.commands", 1) // else the link down sees it within a minute
	press, line := startPress(t), startLine(t)
	profile := fmt.Sprintf(plantProfile, kafka.GuestAddr, press.guestAddr, line)
	opts := []func(*qemu.Config){func(c *qemu.Config) {
		c.Forwards = append(c.Forwards, qemu.Forward{Name: "web", Host: "127.0.0.1:0", Guest: 8082})
	}}
	var modules []string
	if harness.Long() { // QEMU's boards know no USB
		modules = []string{"--module", "xhci_pci", "--module", "usb_storage", "--module", "sd_mod"}
	}
	img := harness.BuildBoard(t, harness.Board, profile, modules...)
	if harness.Long() {
		opts = append(opts, withToken(t, img), usbPort)
	}
	box := harness.Boot(t, img, opts...)
	box.WaitReady()

	publish(t, box.Addr("mqtt"), 0, 1)
	order(t, "http://"+box.Addr("web")+"/orders", `{"order":7}`)
	press.set(0, 4711)
	wantAtCentre(t, kafka, "shop.mqtt", "0")
	wantAtCentre(t, kafka, "shop.web", `{"order":7}`)
	wantAtCentre(t, kafka, "shop.press", `"value":4711`)
	wantAtCentre(t, kafka, "shop.line", `"point":"speed","value":12.5`)

	put(t, kafka.HostAddr, "press.commands", `{"id":"c1","point":"setpoint","value":250}`)
	answer := wantAtCentre(t, kafka, "shop.press.commands.answers", `"id":"c1"`)
	var said struct {
		OK    bool        `json:"ok"`
		Value json.Number `json:"value"`
	}
	if err := json.Unmarshal([]byte(answer), &said); err != nil || !said.OK || said.Value != "250" {
		t.Errorf("answer %s", answer)
	}
	if got := press.get(1); got != 250 {
		t.Errorf("the register holds %d, want 250", got)
	}
	var told console.TelemetryRecord
	if err := json.Unmarshal([]byte(wantAtCentre(t, kafka, "shop.wayside.telemetry", `"name":"press"`)), &told); err != nil ||
		told.Site != "shop-0042" || told.Box == nil || told.Box.Version == "" || len(told.Box.Disks) == 0 || told.Update == nil || len(told.Links) != 2 {
		t.Errorf("telemetry %+v, %v", told, err)
	}

	t.Run("another profile", func(t *testing.T) {
		if !harness.Long() {
			t.Skip("takes two minutes: run make test-all")
		}
		anotherProfile(t, box, kafka, press, profile)
	})
	box.PowerOff()
}

func order(t *testing.T, url, body string) {
	t.Helper()
	res, err := http.Post(url, "application/json", bytes.NewReader([]byte(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		t.Fatalf("POST %s: %s", url, res.Status)
	}
}

// wantAtCentre waits for a record that holds text, and returns its value.
func wantAtCentre(t *testing.T, kafka *harness.Kafka, topic, text string) (found string) {
	t.Helper()
	harness.Eventually(t, 2*time.Minute, "topic "+topic+" of the centre has "+text, func(ctx context.Context) error {
		if _, err := kafka.Count(ctx, topic); err != nil {
			return err
		}
		records := harness.ReadCommitted(t, kafka.HostAddr, topic)
		for _, r := range records {
			if strings.Contains(string(r.Value), text) {
				found = string(r.Value)
				return nil
			}
		}
		return fmt.Errorf("it has %d others", len(records))
	})
	return found
}

// startLine is an OPC UA server with one variable, and returns its endpoint as
// the box sees it.
func startLine(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	ln.Close()
	s := server.New(
		server.EnableSecurity("None", ua.MessageSecurityModeNone), server.EnableAuthMode(ua.UserTokenTypeAnonymous),
		server.EndPoint("127.0.0.1", port), server.EndPoint(hostFromGuest, port), // the first is listened on, both are offered
	)
	space := server.NewNodeNameSpace(s, "plant")
	s.AddNamespace(space)
	root, err := s.Namespace(0)
	if err != nil {
		t.Fatal(err)
	}
	root.Objects().AddRef(space.Objects(), id.HasComponent, true)
	space.Objects().AddRef(space.AddNewVariableStringNode("speed", 12.5), id.HasComponent, true)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return fmt.Sprintf("opc.tcp://%s:%d", hostFromGuest, port)
}
