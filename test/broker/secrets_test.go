package broker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/waysideos/wayside/image/layout"
	"github.com/waysideos/wayside/qemu"
	"github.com/waysideos/wayside/test/harness"
)

const (
	secureName    = "secure.example.com"
	secureProfile = `version: 1
site: secure
broker:
  listeners:
    - name: staff
      listen: :9094
      tls: {cert: server.pem, key: server.key}
      sasl: {mechanisms: [SCRAM-SHA-512], users: users}
  security: {authorizer: true, super_users: ["User:admin"]}
`
)

// TestSecretsFromTheBootPartition has an engineer drop the files of a TLS
// listener beside the profile: clients log in at the first boot, and still do
// after the folder was deleted.
func TestSecretsFromTheBootPartition(t *testing.T) {
	harness.NeedVM(t)
	img := harness.Build(t, secureProfile)
	dir := t.TempDir()
	flashed := filepath.Join(dir, "flashed.img")
	harness.Tool(t, "cp", "--sparse=always", img.Path, flashed)
	img.Path = flashed
	secrets, trust := newSecrets(t)
	for name, data := range secrets {
		harness.PutOnBootPartition(t, flashed, layout.ESPSecrets+"/"+name, data)
	}
	disk := filepath.Join(dir, "disk.raw")
	box := harness.Boot(t, img, func(c *qemu.Config) {
		c.Disk, c.DiskFile = qemu.DiskCopy, disk
		c.Forwards = append(c.Forwards, qemu.Forward{Name: "staff", Host: "127.0.0.1:0", Guest: 9094})
	})
	box.WaitReady()
	checkLogins(t, box, trust, "boot partition")
	box.PowerOff()

	for name := range secrets {
		harness.PutOnBootPartition(t, disk, layout.ESPSecrets+"/"+name, nil)
	}
	box.PowerOn()
	checkLogins(t, box, trust, "last good")
	for _, word := range []string{"correct horse", "battery staple", "PRIVATE KEY"} {
		if strings.Contains(box.Console().Text(), word) || strings.Contains(box.Get("/status"), word) {
			t.Errorf("console or status tell a secret: %q", word)
		}
	}
}

// checkLogins logs in rightly and wrongly, and looks at what the default of
// the access rules, none, lets each do.
func checkLogins(t *testing.T, box *harness.Box, trust *x509.CertPool, source string) {
	t.Helper()
	if !strings.Contains(box.Console().Text(), "wayside: site secrets: "+source) {
		t.Errorf("the console does not say that the secrets are those of the %s", source)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	topic := strings.ReplaceAll(source, " ", "-")
	produce := func(c *kgo.Client) error {
		defer c.Close()
		// First by itself: produce tries to log in again for as long as it may.
		if err := c.Ping(ctx); err != nil {
			return err
		}
		return c.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr()
	}
	login := func(user, password string) *kgo.Client {
		// The broker names the address that it was dialled at, behind QEMU.
		dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
			d := tls.Dialer{Config: &tls.Config{RootCAs: trust, ServerName: secureName}}
			return d.DialContext(ctx, network, box.Addr("staff"))
		}
		return harness.Client(t, box.Addr("staff"), kgo.Dialer(dial),
			kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha512Mechanism()))
	}
	admin := login("admin", "correct horse")
	if _, err := kadm.NewClient(admin).CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		t.Errorf("make a topic as the super user: %v", err)
	}
	if err := produce(admin); err != nil {
		t.Errorf("produce as the super user: %v", err)
	}
	for name, c := range map[string]struct {
		client *kgo.Client
		want   error
	}{
		"wrong password":      {login("admin", "correct house"), kerr.SaslAuthenticationFailed},
		"a user without rule": {login("clerk", "battery staple"), kerr.TopicAuthorizationFailed},
		"nobody, plain text":  {harness.Client(t, box.Addr("kafka")), kerr.TopicAuthorizationFailed},
	} {
		if err := produce(c.client); !errors.Is(err, c.want) {
			t.Errorf("produce as %s: got %v, want %v", name, err, c.want)
		}
	}
}

// newSecrets makes what a listener needs, and what clients trust.
func newSecrets(t *testing.T) (files map[string][]byte, trust *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: secureName}, DNSNames: []string{secureName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	trust = x509.NewCertPool()
	trust.AppendCertsFromPEM(text)
	return map[string][]byte{
		"server.pem": text,
		"server.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		"users":      []byte("admin:correct horse\nclerk:battery staple\n"),
	}, trust
}
