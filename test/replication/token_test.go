package replication

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/waysideos/wayside/test/harness"
)

// issuer gives tokens that end soon for the id "shop" and the secret "s3cret"
// (RFC 6749, section 4.4), and counts them.
func issuer(t *testing.T, key jose.JSONWebKey, given *atomic.Int64) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if id != "shop" || secret != "s3cret" || r.FormValue("grant_type") != "client_credentials" || r.FormValue("scope") != "kafka" {
			http.Error(w, `{"error":"invalid_client"}`, http.StatusUnauthorized)
			return
		}
		now := time.Now()
		token, err := jwt.Signed(signer).Claims(map[string]any{
			"sub": "shop", "iss": "https://login.example.com", "aud": "kafka", "iat": now.Unix(), "exp": now.Add(8 * time.Second).Unix(),
		}).Serialize()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		given.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]string{"access_token": token, "token_type": "Bearer"})
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestTokens: a link logs in to a broker of ours with tokens of an issuer,
// and asks for new ones before they end.
func TestTokens(t *testing.T) {
	need(t)
	t.Parallel()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := jose.JSONWebKey{Key: private, KeyID: "one", Algorithm: "ES256", Use: "sig"}
	public, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}})
	if err != nil {
		t.Fatal(err)
	}
	secrets := serverSecrets(t)
	for name, text := range map[string]string{"jwks.json": string(public), "client.secret": "s3cret\n"} {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plain, secured := harness.FreeAddr(t), harness.FreeAddr(t)
	newService(t, "broker", "--data", t.TempDir(), "--listen", plain, "--secrets", secrets, "--site", writeFile(t, "site.yaml", fmt.Sprintf(`version: 1
site: centre
broker:
  listeners:
    - name: shops
      listen: %q
      tls: {cert: server.pem, key: server.key}
      sasl: {mechanisms: [OAUTHBEARER], oauth: {jwks: jwks.json, issuer: "https://login.example.com", audience: [kafka]}}
`, secured))).start()
	var given atomic.Int64
	_, box := startBroker(t, nil)
	harness.CreateTopic(t, box, "sensors", 1)
	newService(t, "replicator", "--broker", box, "--secrets", secrets, "--site", writeFile(t, "site.yaml", fmt.Sprintf(`version: 1
site: shop
links:
  - name: hq
    bootstrap: [%q]
    topics: [sensors]
    tls: {ca: server.pem}
    sasl: {mechanism: OAUTHBEARER, oauth: {token_url: %q, client_id: shop, client_secret: client.secret, scope: kafka}}
`, secured, issuer(t, key, &given)))).start()
	put(t, box, "sensors", "0")
	all := []string{"0"}
	holds(t, plain, "sensors", all...)
	first := given.Load()
	harness.Eventually(t, time.Minute, "new tokens are asked for", func(context.Context) error {
		all = append(all, fmt.Sprint(len(all)))
		put(t, box, "sensors", all[len(all)-1])
		if n := given.Load(); n <= first {
			return fmt.Errorf("%d tokens were given", n)
		}
		return nil
	})
	holds(t, plain, "sensors", all...)
}
