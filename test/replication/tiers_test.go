package replication

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/test/harness"
)

// put writes one record.
func put(t *testing.T, addr, topic, value string) {
	t.Helper()
	cl := harness.Client(t, addr)
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// holds waits until a topic has exactly these values, in any order.
func holds(t *testing.T, addr, topic string, want ...string) {
	t.Helper()
	harness.Eventually(t, time.Minute, fmt.Sprintf("topic %s has %q", topic, want), func(ctx context.Context) error {
		cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		var got []string
		for len(got) < len(want) && ctx.Err() == nil {
			cl.PollFetches(ctx).EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
		}
		if len(got) != len(want) || strings.Join(got, "\n") != strings.Join(want, "\n") {
			return fmt.Errorf("it has %q", got)
		}
		return nil
	})
}

// TestTiers: a site reports to a gateway, which reports to the centre;
// commands go the other way. Everybody's links name everything, and nothing
// goes round.
func TestTiers(t *testing.T) {
	need(t)
	t.Parallel()
	_, edge := startBroker(t, nil)
	_, factory := startBroker(t, nil)
	_, cloud := startBroker(t, nil)
	harness.CreateTopic(t, edge, "sensors", 1)
	harness.CreateTopic(t, cloud, "commands", 1)
	links := func(site, box, above string) *service {
		s := newService(t, "replicator", "--broker", box, "--site", writeFile(t, "site.yaml", fmt.Sprintf(`version: 1
site: %s
links:
  - {name: up, bootstrap: [%q], topics: ["*"]}
  - {name: down, direction: down, bootstrap: [%q], topics: ["*"]}
`, site, above, above)))
		s.start()
		return s
	}
	box := links("edge", edge, factory)
	gateway := links("factory", factory, cloud)
	put(t, edge, "sensors", "21.5")
	holds(t, cloud, "sensors", "21.5")
	put(t, cloud, "commands", "open")
	// Links down look for new topics once a minute.
	harness.Eventually(t, 3*time.Minute, "the command arrives", func(ctx context.Context) error {
		rep, err := box.status(ctx)
		if err != nil {
			return err
		}
		for _, f := range rep.Flows {
			if f.To == "commands" && f.Records == 1 {
				return nil
			}
		}
		return fmt.Errorf("flows %v", rep.Flows)
	})
	holds(t, edge, "commands", "open")
	put(t, edge, "sensors", "22")
	holds(t, cloud, "sensors", "21.5", "22")
	for name, addr := range map[string]string{"edge": edge, "factory": factory, "cloud": cloud} {
		t.Log(name)
		holds(t, addr, "commands", "open")
		holds(t, addr, "sensors", "21.5", "22")
	}
	for _, s := range []*service{box, gateway} {
		rep, err := s.status(t.Context())
		if err != nil || !rep.OK {
			t.Errorf("status %+v, %v", rep, err)
		}
	}
}

// serverSecrets is a folder with a certificate for 127.0.0.1 and its key.
func serverSecrets(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=centre",
		"-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "server.key", "-out", "server.pem")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	return dir
}

// TestWrongPassword: a link that cannot log in says so; with a new password
// in the file it goes on by itself.
func TestWrongPassword(t *testing.T) {
	need(t)
	t.Parallel()
	secrets := serverSecrets(t)
	secret := func(name, text string) {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	secret("users", "shop:right\n")
	secret("password", "wrong\n")
	plain, secured := harness.FreeAddr(t), harness.FreeAddr(t)
	centre := newService(t, "broker", "--data", t.TempDir(), "--listen", plain, "--secrets", secrets, "--site", writeFile(t, "site.yaml", fmt.Sprintf(`version: 1
site: centre
broker:
  listeners:
    - {name: shops, listen: %q, tls: {cert: server.pem, key: server.key}, sasl: {mechanisms: [SCRAM-SHA-512], users: users}}
`, secured)))
	centre.start()
	_, box := startBroker(t, nil)
	harness.CreateTopic(t, box, "sensors", 1)
	link := newService(t, "replicator", "--broker", box, "--secrets", secrets, "--site", writeFile(t, "site.yaml", fmt.Sprintf(`version: 1
site: shop
links:
  - name: hq
    bootstrap: [%q]
    topics: [sensors]
    tls: {ca: server.pem}
    sasl: {mechanism: SCRAM-SHA-512, user: shop, password: password}
`, secured)))
	link.start()
	put(t, box, "sensors", "21.5")
	said := func(what string, ok func(up bool, why string) bool) {
		t.Helper()
		harness.Eventually(t, 2*time.Minute, what, func(ctx context.Context) error {
			rep, err := link.status(ctx)
			if err != nil {
				return err
			}
			if l := rep.Links[0]; !ok(l.Up, l.Error) {
				return fmt.Errorf("up %v, error %q", l.Up, l.Error)
			}
			return nil
		})
	}
	said("the link says that it cannot log in", func(up bool, why string) bool { return !up && strings.Contains(strings.ToUpper(why), "SASL") })
	secret("password", "right\n")
	holds(t, plain, "sensors", "21.5")
	said("the link is up", func(up bool, why string) bool { return up && why == "" })
}
