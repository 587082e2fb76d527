package link

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/image/disk"
	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/services/manifest"
	"github.com/waysideos/wayside/test/harness"
)

const apiToken = "a token of enough letters"

// anotherProfile gives a box that runs another profile: another point, another
// link, files on a stick; a bad one is refused, and the good one outlives a
// restart.
func anotherProfile(t *testing.T, box *harness.Box, kafka *harness.Kafka, press *press, profile string) {
	changed := strings.Replace(profile, `{name: weight, address: "holding:0", type: uint16}`, `{name: pressure, address: "holding:2", type: uint16}`, 1)
	changed = strings.Replace(changed, "  http:", stickSection+"  http:", 1) +
		fmt.Sprintf("  - name: orders\n    bootstrap: [%q]\n    topics: [web]\n    prefix: again.\n", kafka.GuestAddr)
	harness.CreateTopic(t, kafka.HostAddr, "again.web", 1)
	_, booted := profileOf(t, box)
	bad := strings.Replace(changed, "modbus:", "modbuss:", 1)
	if out, err := apply(t, box, bad); err == nil || !strings.Contains(out, `site.yaml:7:3: connect.modbuss: unknown field (did you mean "modbus"?)`) {
		t.Errorf("a bad profile: %v\n%s", err, out)
	}
	begin := time.Now()
	out, err := apply(t, box, changed)
	if err != nil || !strings.Contains(out, "change     kept") || !strings.Contains(out, "started anew: replicator") {
		t.Fatalf("apply: %v\n%s", err, out)
	}
	t.Logf("applied and kept after %.0f s", time.Since(begin).Seconds())
	press.set(2, 99)
	wantAtCentre(t, kafka, "shop.press", `"point":"pressure","value":99`)
	wantAtCentre(t, kafka, "again.web", `{"order":7}`)
	carryAway(t, box)
	p, now := profileOf(t, box)
	if now.Sub(booted).Abs() > time.Minute || p.Source != "applied" {
		t.Errorf("the box runs since %v by the profile %q, want since %v by the applied one", now, p.Source, booted)
	}

	box.PowerOff()
	box.PowerOn()
	if p, _ := profileOf(t, box); p.Source != "applied" || p.Change != nil {
		t.Errorf("after a restart: profile %q, change %+v", p.Source, p.Change)
	}
	press.set(2, 77)
	wantAtCentre(t, kafka, "shop.press", `"point":"pressure","value":77`)
}

// withToken gives a machine an image whose box takes verbs over the network.
func withToken(t *testing.T, img harness.Image) func(*qemu.Config) {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "image.raw")
	harness.Tool(t, "cp", "--sparse=always", img.Path, copied)
	harness.PutOnBootPartition(t, copied, layout.ESPSecrets+"/api.token", []byte(apiToken))
	return func(c *qemu.Config) { c.Image = copied }
}

// apply gives the box another profile by the tool, and returns what that says.
func apply(t *testing.T, box *harness.Box, profile string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	file, token := filepath.Join(dir, "site.yaml"), filepath.Join(dir, "api.token")
	for name, text := range map[string]string{file: profile, token: apiToken} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := harness.Command(t, "site", "apply", file, "--box", "http://"+box.Addr("console"), "--token-file", token).CombinedOutput()
	return string(out), err
}

// profileOf is what the box says of its profile, and since when it runs.
func profileOf(t *testing.T, box *harness.Box) (manifest.Profile, time.Time) {
	t.Helper()
	var status struct{ Box manifest.Box }
	if err := json.Unmarshal([]byte(box.Get("/status")), &status); err != nil {
		t.Fatal(err)
	}
	return status.Box.Profile, status.Box.Booted
}

// stick is a USB stick with a folder for files; the file is the medium.
type stick struct {
	t    *testing.T
	box  *harness.Box
	file string
}

const stickSize = 64 << 20

// usbPort gives the machine a port to plug sticks in.
func usbPort(c *qemu.Config) { c.Extra = append(c.Extra, "-device", "qemu-xhci,id=usb") }

func newStick(t *testing.T, box *harness.Box, folder string) *stick {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stick.raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(stickSize); err != nil {
		t.Fatal(err)
	}
	if err := disk.WriteFAT(f, disk.FATVolume{Size: stickSize, Label: "STICK"}, []disk.FATFile{{Path: folder + "/README.TXT", Data: []byte("data of the plant\n")}}); err != nil {
		t.Fatal(err)
	}
	return &stick{t, box, f.Name()}
}

func (s *stick) qmp(command, args string) error {
	return s.box.QMP(s.t.Context(), command, json.RawMessage(args), nil)
}

// plug puts the stick in.
func (s *stick) plug() {
	s.t.Helper()
	err := s.qmp("blockdev-add", fmt.Sprintf(`{"driver":"raw","node-name":"stick","file":{"driver":"file","filename":%q}}`, s.file))
	if err == nil {
		err = s.qmp("device_add", `{"driver":"usb-storage","id":"stick-device","drive":"stick","bus":"usb.0","removable":true}`)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// pull takes the stick out, and tells nobody.
func (s *stick) pull() {
	s.t.Helper()
	if err := s.qmp("device_del", `{"id":"stick-device"}`); err != nil {
		s.t.Fatal(err)
	}
	harness.Eventually(s.t, time.Minute, "the stick is out", func(context.Context) error {
		return s.qmp("blockdev-del", `{"node-name":"stick"}`)
	})
}

// files are the complete files, by name.
func (s *stick) files() (map[string]string, error) {
	f, err := os.Open(s.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fat, err := disk.OpenFAT(f, stickSize)
	if err != nil {
		return nil, err
	}
	all, err := fat.List()
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, i := range all {
		if !strings.HasSuffix(i.Path, ".jsonl") || strings.Contains(i.Path, "/.wayside/") {
			continue
		}
		data, err := fat.ReadFile(i.Path)
		if err != nil {
			return nil, err
		}
		out[i.Path] = string(data)
	}
	return out, nil
}

// listing is every file, for a test that fails.
func (s *stick) listing() (out []string) {
	f, err := os.Open(s.file)
	if err != nil {
		return []string{err.Error()}
	}
	defer f.Close()
	fat, err := disk.OpenFAT(f, stickSize)
	if err != nil {
		return []string{err.Error()}
	}
	all, err := fat.List()
	for _, i := range all {
		out = append(out, fmt.Sprintf("%s %d", i.Path, i.Size))
	}
	return append(out, fmt.Sprint(err))
}

// lots are the numbers in the files, sorted.
func (s *stick) lots() (numbers []int, files int, err error) {
	all, err := s.files()
	if err != nil {
		return nil, 0, err
	}
	for name, text := range all {
		for line := range strings.Lines(text) {
			var row struct{ Value struct{ Lot int } }
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				return nil, 0, fmt.Errorf("%s: %q: %v", name, line, err)
			}
			numbers = append(numbers, row.Value.Lot)
		}
	}
	slices.Sort(numbers)
	return numbers, len(all), nil
}

// holds waits until the stick holds lots up to n.
func (s *stick) holds(n int) {
	s.t.Helper()
	harness.Eventually(s.t, 2*time.Minute, fmt.Sprintf("the stick holds %d lots", n), func(context.Context) error {
		got, _, err := s.lots()
		if err == nil && len(got) < n {
			err = fmt.Errorf("it holds %v; all of it: %v", got, s.listing())
		}
		return err
	})
}

// produceLots writes numbered records to the box.
func produceLots(t *testing.T, box *harness.Box, from, to int) {
	t.Helper()
	cl := harness.Client(t, box.Addr("kafka"))
	defer cl.Close()
	for n := from; n < to; n++ {
		if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "lots", Value: fmt.Appendf(nil, `{"lot":%d}`, n)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// carryAway has the box write lots to a stick that is plugged in while it runs,
// pulled out in the middle of it and plugged in again.
func carryAway(t *testing.T, box *harness.Box) {
	t.Helper()
	s := newStick(t, box, "wayside-data")
	harness.CreateTopic(t, box.Addr("kafka"), "lots", 1)
	produceLots(t, box, 0, 20)
	s.plug()
	s.holds(20)
	// The kernel says of itself that the disk has changed: it stays in use.
	produceLots(t, box, 20, 40)
	s.pull()
	produceLots(t, box, 40, 60)
	s.plug()
	produceLots(t, box, 60, 80)
	s.holds(80)
	got, files, err := s.lots()
	want := make([]int, 80)
	for n := range want {
		want[n] = n
	}
	if err != nil || !slices.Equal(got, want) || files < 2 {
		t.Errorf("the stick holds %v in %d files, %v; want 0 to 79, each once, in several", got, files, err)
	}
}
