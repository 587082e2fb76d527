package mqttclient

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/waysideos/wayside/services/connect"
	"github.com/waysideos/wayside/services/connect/connecttest"
	"github.com/waysideos/wayside/services/site"
)

func (f *far) profile(version string) string {
	return fmt.Sprintf(`name: dev
address: mqtt://%s
version: %q
client_id: gateway
user: box
password: password
subscribe: [{filter: plant/#, qos: 1}]
`, f.Addr, version)
}

func secret(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func suite(version string) connecttest.Case {
	return connecttest.Case{
		Protocol: "mqtt_client", Acknowledged: true, Senders: 100,
		New: func(t *testing.T, secrets string) (string, connecttest.Device) {
			secret(t, secrets, "password", "s3cret-word\n")
			f := newFar(t)
			return f.profile(version), f
		},
		Make: func(p *site.Profile) (connect.Connector, error) { return New(p.Connect.MQTTClient[0]) },
	}
}

func TestSuite5(t *testing.T)   { connecttest.Run(t, suite("5")) }
func TestSuite311(t *testing.T) { connecttest.Run(t, suite("3.1.1")) }

// `wayside connect test` does not throw the box off the broker, whose client
// identifier it has in its profile, and takes nothing that waits for the box.
func TestTrialIsAnotherClient(t *testing.T) {
	for _, version := range []string{"5", "3.1.1"} {
		t.Run(version, func(t *testing.T) {
			f, secrets := newFar(t), t.TempDir()
			secret(t, secrets, "password", "s3cret-word\n")
			f.Plug()
			b := connecttest.NewBroker(t)
			text := "version: 1\nsite: box\nconnect:\n  mqtt_client:\n    -\n      " +
				strings.ReplaceAll(f.profile(version)+"publish: [{topic: out, to: out}]\n", "\n", "\n      ")
			p, err := site.Parse("test", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			instance := func() connect.Instance {
				c, err := New(p.Connect.MQTTClient[0])
				if err != nil {
					t.Fatal(err)
				}
				return connect.NewInstance(p.Connect.Instances()[0], c)
			}
			run := connecttest.Start(t, b.Addr, nil, secrets, instance())
			connecttest.Until(t, "the box is connected", func() bool { return run.State("dev").State == connect.Running })
			over := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { // values for whoever is there
				for v := int64(0); ; v++ {
					select {
					case <-over:
						return
					default:
						_ = f.Emit(v)
					}
				}
			})
			defer wg.Wait()
			defer close(over)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			shown := 0
			err = connect.Try(ctx, connect.Config{Site: "box", Secrets: secrets}, instance(), 3, func(r *kgo.Record) {
				if json.Valid(r.Value) {
					shown++
				}
			})
			if err != nil || shown != 3 {
				t.Errorf("trial: %v, %d records, want 3", err, shown)
			}
			if s := run.State("dev"); s.State != connect.Running || s.Restarts != 0 {
				t.Errorf("the box was thrown off: %+v", s)
			}
		})
	}
}
